// A small file's whole content, read by its name.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace lm::importer {

// Empty where there is no regular file of at most that size. Blocks on the disk.
std::string small_file(const std::filesystem::path& path, std::size_t largest);

}  // namespace lm::importer
