// The host's memory that kept conversations take, as the ledger sees it, and what of it was asked back for a
// load. A value; the arbiter has one.
#pragma once

#include "base/bytes.h"
#include "base/time.h"

namespace lm::core {

class KeptMemory {
 public:
  // What is kept now.
  Bytes bytes() const { return bytes_; }
  // Of the last measurement of the devices: what of others' use was this.
  Bytes measured() const { return measured_; }
  void note_measurement() { measured_ = bytes_; }

  // It has changed: what became less was asked for.
  void now_keeps(Bytes bytes);

  // So many more are to come back; the owner is given until due() for it.
  void ask(Bytes bytes, TimePoint now);
  // Asked for and still to come; nothing any more once it is late.
  Bytes coming(TimePoint now) const { return now < due_ ? coming_ : Bytes(); }
  // What can be asked for beyond that; nothing for a while after it was late.
  Bytes droppable(TimePoint now) const;
  // When what is awaited is late, or may be asked for again; in the past where neither is the case.
  TimePoint due(TimePoint now) const { return now < due_ ? due_ : again_; }

 private:
  Bytes bytes_, measured_;
  Bytes coming_;
  TimePoint due_{}, again_{};
};

}  // namespace lm::core
