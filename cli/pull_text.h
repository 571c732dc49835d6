// A pull as people see it: the line of its progress, the words of its end, the table of all. Pure.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "cli/console.h"

namespace lm::cli {

// "hf:Qwen/Qwen3-8B-GGUF  ██████▌·····  52 %  2.4 of 4.7 GB  35.2 MB/s  1 min 4 s left": at most `columns`
// wide; first the bar goes, then the name is cut.
std::string pull_line(const boost::json::value& pull, int columns);

// What stands behind the progress where no line can be redrawn: "downloading", "verifying", "paused", …
std::string pull_stage(const boost::json::value& pull);

// Of a pull that rests, whole lines.
std::string pull_end_text(const boost::json::value& pull);

std::string pull_table(const boost::json::value& answer, const Stream& stream);

}  // namespace lm::cli
