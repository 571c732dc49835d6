#include "report.h"

#include <cerrno>
#include <string>
#include <unistd.h>

#include <boost/json.hpp>

namespace lm::importer {
namespace {

namespace json = boost::json;

// A reader that is gone does not stop an import.
void send(std::string text) {
  text += '\n';
  std::size_t sent = 0;
  while (sent < text.size()) {
    const auto n = ::write(STDOUT_FILENO, text.data() + sent, text.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

void send(const json::object& line) {
  send(json::serialize(line));
}

}  // namespace

void ProgressReport::operator()(Bytes done, Bytes total) {
  const auto percent = total.count() > 0 ? done.count() * 100 / total.count() : 100;
  if (percent == percent_) return;
  percent_ = percent;
  send({{"kind", "progress"}, {"done", done.count()}, {"total", total.count()}});
}

void report_written(const Imported& imported) {
  send({{"kind", "written"},
        {"architecture", imported.architecture},
        {"quantization", imported.quantization},
        {"size", imported.size.count()},
        {"tensors", imported.tensors},
        {"notices", json::array(imported.notices.begin(), imported.notices.end())}});
}

void report_imported(std::string_view path) {
  send({{"kind", "imported"}, {"path", path}});
}

void report_stored(const wire::StoredLine& line) {
  send(wire::encode(line));
}

void report_failed(const Error& error) {
  send({{"kind", "failed"},
        {"code", to_string(error.code)},
        {"reason", error.reason},
        {"message", error.message}});
}

}  // namespace lm::importer
