// The command line: what is understood, what is refused, and what the completion scripts are made of.
#include "cli/arguments.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/completion.h"
#include "cli/failure.h"

namespace lm::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class Options>
Options parsed(const std::vector<std::string>& arguments) {
  const auto result = parse_arguments(arguments);
  if (!result) {
    ADD_FAILURE() << result.error().text;
    return {};
  }
  if (!std::holds_alternative<Options>(result->command)) {
    ADD_FAILURE() << "another command";
    return {};
  }
  return std::get<Options>(result->command);
}

Usage refused(const std::vector<std::string>& arguments) {
  const auto result = parse_arguments(arguments);
  EXPECT_FALSE(result.has_value());
  return result ? Usage{} : result.error();
}

TEST(Arguments, Serve) {
  const auto options =
      parsed<ServeOptions>({"serve", "--config", "a.yaml", "--listen", "127.0.0.1:0", "--models", "/a",
                            "--models", "/b", "--data", "/d", "--log-level", "debug", "--record", "/r"});
  EXPECT_EQ(options.record, "/r");
  EXPECT_EQ(options.config, "a.yaml");
  EXPECT_EQ(options.listen, "127.0.0.1:0");
  EXPECT_THAT(options.models, ElementsAre("/a", "/b"));
  EXPECT_EQ(options.data, "/d");
  EXPECT_EQ(options.log_level, "debug");
  EXPECT_EQ(refused({"serve", "--log-level", "loud"}).code, ExitCode::kUsage);
}

TEST(Arguments, AnEmptyUrlIsRefusedInWords) {
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"list", "--url="}, {"--url=", "list"}, {"list", "--url", ""}}) {
    const Usage usage = refused(line);
    EXPECT_EQ(usage.code, ExitCode::kUsage);
    EXPECT_THAT(usage.text, HasSubstr("--url is empty"));
  }
  EXPECT_TRUE(refused({"list", "--json", "--url="}).json);
  EXPECT_EQ(parsed<ChatOptions>({"chat", "--", "--url="}).model, "--url=") << "behind -- a word is a word";
}

TEST(Arguments, JsonAndUrlMayStandBeforeOrAfterTheCommand) {
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"--json", "--url", "http://h:1", "list"},
        {"list", "--url", "http://h:1", "--json"}}) {
    const auto result = parse_arguments(line);
    ASSERT_TRUE(result.has_value());
    EXPECT_TRUE(result->json);
    EXPECT_EQ(result->url, "http://h:1");
    EXPECT_TRUE(std::holds_alternative<ListOptions>(result->command));
  }
}

TEST(Arguments, LoadUnloadPin) {
  EXPECT_TRUE(parsed<LoadOptions>({"load", "tiny", "--force"}).force);
  EXPECT_EQ(parsed<LoadOptions>({"load", "tiny"}).model, "tiny");
  EXPECT_TRUE(parsed<UnloadOptions>({"unload", "--all", "--hold"}).hold);
  EXPECT_EQ(parsed<UnloadOptions>({"unload", "--all"}).model, "");
  EXPECT_EQ(parsed<UnloadOptions>({"unload", "tiny"}).model, "tiny");
  EXPECT_TRUE(parsed<PinOptions>({"pin", "tiny"}).pin);
  EXPECT_FALSE(parsed<PinOptions>({"unpin", "tiny"}).pin);
  EXPECT_EQ(parsed<PinOptions>({"unpin", "tiny"}).model, "tiny");
}

TEST(Arguments, UnloadNeedsAModelOrAllAndNotBoth) {
  EXPECT_THAT(refused({"unload"}).text, HasSubstr("--all"));
  EXPECT_THAT(refused({"unload", "tiny", "--all"}).text, HasSubstr("not both"));
}

TEST(Arguments, ChatTakesAModelFirstUnlessTheWordHasSpaces) {
  EXPECT_EQ(parsed<ChatOptions>({"chat"}).model, "");
  EXPECT_EQ(parsed<ChatOptions>({"chat", "tiny"}).model, "tiny");
  EXPECT_EQ(parsed<ChatOptions>({"chat", "tiny"}).prompt, "");
  const auto asked =
      parsed<ChatOptions>({"chat", "tiny", "What", "now?", "--temperature", "0", "--system", "Be brief."});
  EXPECT_EQ(asked.model, "tiny");
  EXPECT_EQ(asked.prompt, "What now?");
  EXPECT_EQ(asked.temperature, 0.0);
  EXPECT_EQ(asked.system, "Be brief.");
  EXPECT_EQ(parsed<ChatOptions>({"chat", "What now?"}).model, "");
  EXPECT_EQ(parsed<ChatOptions>({"chat", "What now?"}).prompt, "What now?");
  EXPECT_EQ(parsed<ChatOptions>({"chat", "-m", "tiny", "Hello"}).prompt, "Hello");
  EXPECT_EQ(refused({"chat", "--temperature", "3"}).code, ExitCode::kUsage);
}

TEST(Arguments, WhatJsonHasNoFormForIsRefusedHere) {
  for (const std::vector<std::string>& line : {std::vector<std::string>{"chat", "caf\xE9 au lait"},
                                               {"load", "\xFF"},
                                               {"embed", "a", "\xC3"},
                                               {"inspect", "/m/\xE9.gguf"}}) {
    const Usage usage = refused(line);
    EXPECT_EQ(usage.code, ExitCode::kUsage);
    EXPECT_THAT(usage.text, HasSubstr("is not UTF-8"));
  }
  EXPECT_THAT(refused({"load", "\xFF"}).text, HasSubstr("\\xFF"));
  EXPECT_EQ(parsed<ChatOptions>({"chat", "one two", "\xE7\xBA\xBF"}).prompt, "one two \xE7\xBA\xBF");
  // Paths that stay here are bytes.
  EXPECT_EQ(parsed<ServeOptions>({"serve", "--models", "/m/\xE9"}).models.front(), "/m/\xE9");
  EXPECT_EQ(parsed<ConfigCheckOptions>({"config", "check", "/m/\xE9"}).file, "/m/\xE9");
  for (const char* number : {"nan", "inf", "3"})
    EXPECT_EQ(refused({"chat", "--temperature", number, "hi"}).code, ExitCode::kUsage) << number;
  EXPECT_EQ(refused({"top", "-d", "nan"}).code, ExitCode::kUsage);
  EXPECT_EQ(refused({"simulate", "--synthetic", "--rate", "nan"}).code, ExitCode::kUsage);
}

TEST(Arguments, AnEmptyNameIsRefused) {
  for (const char* command : {"load", "unload", "switch", "pin", "rm", "plan", "explain"}) {
    const Usage usage = refused({command, ""});
    EXPECT_EQ(usage.code, ExitCode::kUsage) << command;
    EXPECT_THAT(usage.text, HasSubstr("it is empty")) << command;
  }
}

TEST(Arguments, WordsOfAPromptAreNoCommands) {
  const auto asked = parsed<ChatOptions>({"chat", "tiny", "list", "the", "planets"});
  EXPECT_EQ(asked.prompt, "list the planets");
  EXPECT_EQ(parsed<ChatOptions>({"chat", "tiny", "--", "--json", "is", "what?"}).prompt, "--json is what?");
}

TEST(Arguments, ADashReadsStandardInput) {
  const auto asked = parsed<ChatOptions>({"chat", "tiny", "Sum up:", "-"});
  EXPECT_TRUE(asked.reads_input);
  EXPECT_EQ(asked.prompt, "Sum up:");
  EXPECT_THAT(parsed<EmbedOptions>({"embed", "-"}).texts, ElementsAre("-"));
}

TEST(Arguments, EmbedTakesAModelOnlyBeforeAText) {
  EXPECT_THAT(parsed<EmbedOptions>({"embed", "word"}).texts, ElementsAre("word"));
  EXPECT_EQ(parsed<EmbedOptions>({"embed", "word"}).model, "");
  EXPECT_EQ(parsed<EmbedOptions>({"embed", "minilm", "one text", "another"}).model, "minilm");
  EXPECT_THAT(parsed<EmbedOptions>({"embed", "minilm", "one text", "another"}).texts,
              ElementsAre("one text", "another"));
  EXPECT_THAT(parsed<EmbedOptions>({"embed", "one text", "another"}).texts,
              ElementsAre("one text", "another"));
  EXPECT_THAT(parsed<EmbedOptions>({"embed", "-m", "minilm", "a", "b"}).texts, ElementsAre("a", "b"));
  EXPECT_EQ(refused({"embed"}).code, ExitCode::kUsage);
}

TEST(Arguments, LogsExplainConfigCompletion) {
  const auto logs = parsed<LogsOptions>({"logs", "-f", "-n", "5"});
  EXPECT_TRUE(logs.follow);
  EXPECT_EQ(logs.lines, 5);
  EXPECT_EQ(parsed<ExplainOptions>({"explain"}).model, "");
  EXPECT_EQ(parsed<ExplainOptions>({"explain", "tiny", "-n", "3"}).limit, 3);
  parsed<ConfigExampleOptions>({"config", "example"});
  EXPECT_EQ(parsed<ConfigCheckOptions>({"config", "check", "a.yaml"}).file, "a.yaml");
  EXPECT_EQ(parsed<CompletionOptions>({"completion", "zsh"}).shell, "zsh");
  EXPECT_EQ(refused({"completion", "tcsh"}).code, ExitCode::kUsage);
  parsed<VersionOptions>({"version"});
  parsed<VersionOptions>({"--version"});
}

TEST(Arguments, Conversations) {
  EXPECT_EQ(parsed<ConversationsOptions>({"conversations"}).limit, 20);
  const auto list = parsed<ConversationsOptions>(
      {"conversations", "list", "--user", "ada", "--channel", "#tea", "--search", "模型 x", "-n", "5"});
  EXPECT_EQ(list.user, "ada");
  EXPECT_EQ(list.channel, "#tea");
  EXPECT_EQ(list.search, "模型 x");
  EXPECT_EQ(list.limit, 5);
  EXPECT_EQ(parsed<ConversationShowOptions>({"conversations", "show", "c1"}).id, "c1");
  EXPECT_EQ(parsed<ConversationExportOptions>({"conversations", "export", "c1"}).format, "md");
  EXPECT_EQ(parsed<ConversationExportOptions>({"conversations", "export", "c1", "--format", "json"}).format,
            "json");
  EXPECT_THAT(parsed<ConversationRemoveOptions>({"conversations", "rm", "c1", "c2"}).ids,
              ElementsAre("c1", "c2"));
  const auto rename =
      parsed<ConversationRenameOptions>({"conversations", "rename", "c1", "Trip", "to", "list"});
  EXPECT_EQ(rename.id, "c1");
  EXPECT_EQ(rename.title, "Trip to list");
  for (const auto& wrong :
       std::vector<std::vector<std::string>>{{"conversations", "show"},
                                             {"conversations", "rm"},
                                             {"conversations", "rename", "c1"},
                                             {"conversations", "read", "c1"},
                                             {"conversations", "list", "-n", "0"},
                                             {"conversations", "export", "c1", "--format", "x"}})
    EXPECT_EQ(refused(wrong).code, ExitCode::kUsage);
}

TEST(Arguments, Simulate) {
  const auto options = parsed<SimulateOptions>(
      {"simulate", "--trace",      "day.csv", "--models",  "m.yaml",   "--memory", "24GB",
       "--swap",   "500ms",        "--slots", "2",         "--policy", "fifo",     "--policy",
       "all",      "--max-loaded", "1",       "--age-cap", "1min",     "--load",   "0.8"});
  EXPECT_EQ(options.trace, "day.csv");
  EXPECT_EQ(options.models, "m.yaml");
  EXPECT_EQ(options.memory, gib(24));
  EXPECT_EQ(options.swap, std::chrono::milliseconds(500));
  EXPECT_EQ(options.slots, 2);
  EXPECT_EQ(options.max_loaded, 1);
  EXPECT_EQ(options.age_cap, std::chrono::minutes(1));
  EXPECT_EQ(options.load, 0.8);
  EXPECT_THAT(options.policies, ElementsAre("gated", "exhaustive", "fifo"));
  const auto made =
      parsed<SimulateOptions>({"simulate", "--synthetic", "--rate", "1.6", "--duration", "2h", "--seed", "7",
                               "--service", "1s", "--model-count", "3", "--skew", "1"});
  EXPECT_TRUE(made.trace.empty());
  EXPECT_EQ(made.synthetic.rate, 1.6);
  EXPECT_EQ(made.synthetic.span, std::chrono::hours(2));
  EXPECT_EQ(made.synthetic.seed, 7U);
  EXPECT_EQ(made.synthetic.models, 3);
  EXPECT_EQ(made.synthetic.service, std::chrono::seconds(1));
  EXPECT_TRUE(made.policies.empty());
}

TEST(Arguments, SimulateSaysWhatIsMissingOrTooMuch) {
  EXPECT_THAT(refused({"simulate"}).text, HasSubstr("give a --trace FILE, or say --synthetic"));
  EXPECT_THAT(refused({"simulate", "--trace", "a", "--synthetic"}).text, HasSubstr("not both"));
  EXPECT_THAT(refused({"simulate", "--trace", "a", "--rate", "3"}).text, HasSubstr("--synthetic"));
  EXPECT_THAT(refused({"simulate", "--trace", "a", "--scale", "2", "--load", "1"}).text,
              HasSubstr("not both"));
  EXPECT_THAT(refused({"simulate", "--trace", "a", "--memory", "much"}).text, HasSubstr("such as 24GB"));
  EXPECT_THAT(refused({"simulate", "--trace", "a", "--swap", "soon"}).text, HasSubstr("such as 500ms"));
  EXPECT_THAT(refused({"simulate", "--trace", "a", "--policy", "lifo"}).text, HasSubstr("lifo"));
  EXPECT_EQ(refused({"simulate", "--trace", "a", "--scale", "0"}).code, ExitCode::kUsage);
}

TEST(Arguments, AMistypedCommandIsToldTheNearest) {
  const Usage usage = refused({"lits"});
  EXPECT_EQ(usage.code, ExitCode::kUsage);
  EXPECT_THAT(usage.text, HasSubstr("lits is no command; did you mean list?"));
  EXPECT_THAT(refused({"config", "chek"}).text, HasSubstr("did you mean check?"));
  EXPECT_THAT(refused({"config"}).text, HasSubstr("example, check"));
  EXPECT_THAT(refused({"load"}).text, HasSubstr("llm-manager load --help"));
  EXPECT_THAT(refused({"load", "a", "b"}).text, HasSubstr("b"));
  EXPECT_TRUE(refused({"load", "--json"}).json);
}

TEST(Arguments, NothingAtAllShowsTheHelp) {
  const Usage usage = refused({});
  EXPECT_EQ(usage.code, ExitCode::kUsage);
  EXPECT_THAT(usage.text, HasSubstr("llm-manager serve"));
}

TEST(Arguments, HelpNamesEveryCommandAndTheExitCodes) {
  const Usage usage = refused({"--help"});
  EXPECT_EQ(usage.code, ExitCode::kOk);
  for (const CommandShape& command : command_shapes()) {
    if (command.name.find(' ') == std::string::npos) {
      EXPECT_THAT(usage.text, HasSubstr("\n  " + command.name)) << usage.text;
    }
  }
  EXPECT_THAT(usage.text, HasSubstr("Exit codes"));
  EXPECT_THAT(usage.text, HasSubstr("LLM_MANAGER_URL"));
  EXPECT_THAT(usage.text, ::testing::Not(HasSubstr("__models")));
}

TEST(Arguments, EveryCommandHasHelpWithAnExampleAndJson) {
  for (const CommandShape& command : command_shapes()) {
    if (command.name == "config") continue;
    std::vector<std::string> line;
    if (const auto space = command.name.find(' '); space != std::string::npos)
      line = {command.name.substr(0, space), command.name.substr(space + 1), "--help"};
    else
      line = {command.name, "--help"};
    const Usage usage = refused(line);
    EXPECT_EQ(usage.code, ExitCode::kOk);
    EXPECT_THAT(usage.text, HasSubstr("Usage: llm-manager " + command.name + " ")) << command.name;
    EXPECT_THAT(usage.text, HasSubstr("Example:\n  llm-manager " + command.name)) << command.name;
    EXPECT_THAT(usage.text, HasSubstr("--json")) << command.name;
  }
}

TEST(ExitCodes, OfErrorsAndAnswers) {
  const auto code = [](ErrorCode error, std::string reason) {
    return exit_code_of(
        {.code = error, .message = "", .reason = std::move(reason), .fields = {}, .retry_after = {}});
  };
  EXPECT_EQ(code(ErrorCode::kUnavailable, "connect_failed"), ExitCode::kUnreachable);
  EXPECT_EQ(code(ErrorCode::kDeadlineExceeded, "connect_timeout"), ExitCode::kUnreachable);
  EXPECT_EQ(code(ErrorCode::kUnavailable, "connection_lost"), ExitCode::kUnreachable);
  EXPECT_EQ(code(ErrorCode::kInvalidArgument, "bad_url"), ExitCode::kUsage);
  EXPECT_EQ(code(ErrorCode::kNotFound, "config_not_found"), ExitCode::kNotFound);
  EXPECT_EQ(code(ErrorCode::kCancelled, "interrupted"), ExitCode::kInterrupted);
  EXPECT_EQ(code(ErrorCode::kInvalidArgument, "invalid_config"), ExitCode::kFailed);
  EXPECT_EQ(exit_code_of_answer(404, "model_not_found"), ExitCode::kNotFound);
  EXPECT_EQ(exit_code_of_answer(404, "no_such_route"), ExitCode::kFailed);
  EXPECT_EQ(exit_code_of_answer(507, "insufficient_memory"), ExitCode::kOutOfMemory);
  EXPECT_EQ(exit_code_of_answer(0, "insufficient_memory"), ExitCode::kOutOfMemory);
  EXPECT_EQ(exit_code_of_answer(503, "model_held"), ExitCode::kFailed);
  EXPECT_EQ(exit_code_of_answer(400, ""), ExitCode::kFailed);
}

TEST(ExitCodes, AnErrorEventIsJudgedByItsType) {
  EXPECT_EQ(failure_of_answer(
                0, R"({"error":{"message":"x","type":"not_found_error","code":"artifact_missing"}})", "d")
                .code,
            ExitCode::kNotFound);
  EXPECT_EQ(
      failure_of_answer(0, R"({"error":{"message":"x","type":"server_error","code":"internal"}})", "d").code,
      ExitCode::kFailed);
}

TEST(Failures, SayWhatToDo) {
  EXPECT_EQ(
      failure_of_answer(
          503, R"({"error":{"message":"tiny is held by ada","code":"model_held","retry_after_s":1.6}})", "d")
          .message,
      "tiny is held by ada; try again in 2 s");
  EXPECT_THAT(
      failure_of_answer(401, R"({"error":{"message":"a key is needed","code":"missing_key"}})", "d").message,
      HasSubstr("LLM_MANAGER_API_KEY"));
  const Failure foreign = failure_of_answer(404, "<html>nginx</html>", "http://h:1");
  EXPECT_EQ(foreign.code, ExitCode::kUnreachable);
  EXPECT_THAT(foreign.message, HasSubstr("http://h:1"));
  EXPECT_THAT(foreign.json, HasSubstr("\"not_a_daemon\""));
}

class Completion : public ::testing::TestWithParam<std::string> {};

TEST_P(Completion, TheShellReadsItsScript) {
  const auto script = completion_script(GetParam(), command_shapes());
  ASSERT_TRUE(script.has_value());
  EXPECT_THAT(*script, HasSubstr("__llm_manager_models"));
  EXPECT_THAT(*script, HasSubstr("unload"));
  // A shell that is not on this machine cannot be asked; what it would read is checked above.
  if (std::system(("command -v " + GetParam() + " > /dev/null 2>&1").c_str()) != 0) return;
  const auto file = std::filesystem::temp_directory_path() /
                    ("llm-manager-completion-" + std::to_string(::getpid()) + "." + GetParam());
  std::ofstream(file) << *script;
  EXPECT_EQ(std::system((GetParam() + " -n '" + file.string() + "'").c_str()), 0) << *script;
  std::filesystem::remove(file);
}
INSTANTIATE_TEST_SUITE_P(Shells, Completion, ::testing::Values("bash", "zsh", "fish"),
                         [](const auto& info) { return info.param; });

// What bash would offer behind `line`, with "alpha", "beta", "qwen:7b" and "qwen:14b" for models. A ":" is a
// word of its own, as bash splits lines.
std::string bash_offers(const std::vector<std::string>& line) {
  std::string words;
  std::string typed;
  for (const std::string& word : line) {
    words += "'" + word + "' ";
    const bool joins = typed.empty() || word == ":" || typed.ends_with(':');
    typed += (joins ? "" : " ") + word;
  }
  const std::string program =
      *completion_script("bash", command_shapes()) +
      "\nllm-manager() { printf '%s\\n' alpha beta qwen:7b qwen:14b; }\nCOMP_WORDS=(" + words +
      ")\nCOMP_CWORD=" + std::to_string(line.size() - 1) + "\nCOMP_LINE='" + typed +
      "'\nCOMP_POINT=${#COMP_LINE}" + "\n__llm_manager\necho \"${COMPREPLY[*]}\"\n";
  const auto file =
      std::filesystem::temp_directory_path() / ("llm-manager-offers-" + std::to_string(::getpid()) + ".bash");
  std::ofstream(file) << program;
  std::string out;
  FILE* pipe = ::popen(("bash --norc '" + file.string() + "'").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  char buffer[4096];
  while (pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr) out += buffer;
  if (pipe != nullptr) ::pclose(pipe);
  std::filesystem::remove(file);
  while (out.ends_with('\n')) out.pop_back();
  return out;
}

TEST(BashCompletion, OffersCommandsModelsOptionsAndWords) {
  EXPECT_EQ(bash_offers({"llm-manager", "unl"}), "unload");
  EXPECT_EQ(bash_offers({"llm-manager", "load", ""}), "alpha beta qwen:7b qwen:14b");
  EXPECT_EQ(bash_offers({"llm-manager", "--json", "load", "al"}), "alpha");
  EXPECT_EQ(bash_offers({"llm-manager", "unload", "--ho"}), "--hold");
  EXPECT_EQ(bash_offers({"llm-manager", "chat", "--model", "b"}), "beta");
  EXPECT_EQ(bash_offers({"llm-manager", "completion", "f"}), "fish");
  EXPECT_EQ(bash_offers({"llm-manager", "config", "ch"}), "check");
  EXPECT_EQ(bash_offers({"llm-manager", "conversations", "re"}), "rename");
  EXPECT_EQ(bash_offers({"llm-manager", "conversations", "list", "--se"}), "--search");
  EXPECT_THAT(bash_offers({"llm-manager", "chat", "--system", ""}), IsEmpty());
}

TEST(BashCompletion, GoesOnBehindAColon) {
  EXPECT_EQ(bash_offers({"llm-manager", "switch", "q"}), "qwen:7b qwen:14b");
  EXPECT_EQ(bash_offers({"llm-manager", "switch", "qwen", ":"}), "7b 14b");
  EXPECT_EQ(bash_offers({"llm-manager", "switch", "qwen", ":", "1"}), "14b");
  EXPECT_EQ(bash_offers({"llm-manager", "chat", "-m", "qwen", ":", "7"}), "7b");
  EXPECT_EQ(bash_offers({"llm-manager", "chat", "--model", "b"}), "beta");
}

}  // namespace
}  // namespace lm::cli
