#include "config/arriving.h"

#include <fstream>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/model_folder.h"

namespace lm::config {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class Arriving : public ::testing::Test {
 protected:
  Arriving() {
    std::string pattern = (fs::temp_directory_path() / "lm-arriving-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~Arriving() override { fs::remove_all(root_); }

  void write(const std::string& name, const std::string& text) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  std::vector<std::string> ids() {
    std::vector<std::string> names;
    for (const Model& model : scan_model_folders(std::vector{root_}).models) names.push_back(model.id.str());
    return names;
  }

  fs::path root_;
};

TEST_F(Arriving, IsReadAsItWasWritten) {
  const std::vector<Arrival> arrivals = {
      {.from = "1.part", .to = "a/b c.gguf", .size = 5, .hash = "sha256:ab"},
      {.from = "2.part", .to = "a/d.gguf", .size = 0, .hash = ""}};
  write("list", arriving_text(arrivals));
  EXPECT_EQ(read_arriving(root_ / "list"), arrivals);
  for (const std::string text : {"", "1.part\ta.gguf\t5\tx\n", "\ta\t5\t\nend\n", "1\ta\tmany\t\nend\n"}) {
    write("list", text);
    EXPECT_EQ(read_arriving(root_ / "list"), std::nullopt) << text;
  }
  EXPECT_EQ(read_arriving(root_ / "none"), std::nullopt);
}

TEST_F(Arriving, HalfOfAModelIsNotListed) {
  write("a/m-00001-of-00002.gguf", "new");
  write("other.gguf", "x");
  write(".pull/key/arriving",
        arriving_text({{.from = "1", .to = "a/m-00001-of-00002.gguf", .size = 3, .hash = ""},
                       {.from = "2", .to = "a/m-00002-of-00002.gguf", .size = 3, .hash = ""}}));
  EXPECT_THAT(ids(), ElementsAre("other"));
  write("a/m-00002-of-00002.gguf", "new");
  EXPECT_THAT(ids(), ElementsAre("other"));
  fs::remove_all(root_ / ".pull");
  EXPECT_THAT(ids(), ElementsAre("other", "m"));
}

}  // namespace
}  // namespace lm::config
