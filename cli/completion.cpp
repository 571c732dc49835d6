#include "cli/completion.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lm::cli {
namespace {

using Option = CommandShape::Option;
using Takes = CommandShape::Takes;

std::string single_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out + "'";
}

// Commands that stand first, without their children.
std::vector<const CommandShape*> top(const std::vector<CommandShape>& commands) {
  std::vector<const CommandShape*> out;
  for (const CommandShape& command : commands) {
    if (command.name.find(' ') == std::string::npos) out.push_back(&command);
  }
  return out;
}

// Those that have children, for a shell's pattern: "config|conversations".
std::string parents_of(const std::vector<CommandShape>& commands) {
  std::string parents;
  for (const CommandShape* command : top(commands)) {
    const bool has_children =
        std::ranges::any_of(commands, [&](const auto& c) { return c.name.starts_with(command->name + " "); });
    if (has_children) parents += (parents.empty() ? "" : "|") + command->name;
  }
  return parents;
}

std::vector<std::string> option_names(const CommandShape& command, Option::Value value, bool any) {
  std::vector<std::string> names;
  for (const Option& option : command.options) {
    if (any || option.value == value) names.insert(names.end(), option.names.begin(), option.names.end());
  }
  return names;
}

std::string bash_case(const CommandShape& command) {
  std::string out = fmt::format("    {})\n", single_quoted(command.name));
  const auto after = [&](Option::Value value, std::string_view reply) {
    const auto names = option_names(command, value, false);
    if (!names.empty())
      out +=
          fmt::format("      case \"$previous\" in {}) {}; return ;; esac\n", fmt::join(names, "|"), reply);
  };
  after(Option::Value::kFile, "COMPREPLY=($(compgen -f -- \"$word\"))");
  after(Option::Value::kFolder, "COMPREPLY=($(compgen -d -- \"$word\"))");
  after(Option::Value::kModel, "COMPREPLY=($(compgen -W \"$(__llm_manager_models)\" -- \"$word\"))");
  after(Option::Value::kText, "COMPREPLY=()");
  out +=
      fmt::format("      case \"$word\" in -*) COMPREPLY=($(compgen -W {} -- \"$word\")); return ;; esac\n",
                  single_quoted(fmt::format("{}", fmt::join(option_names(command, {}, true), " "))));
  switch (command.takes) {
    case Takes::kModel:
      out += "      COMPREPLY=($(compgen -W \"$(__llm_manager_models)\" -- \"$word\"))\n";
      break;
    case Takes::kFile:
      out += "      COMPREPLY=($(compgen -f -- \"$word\"))\n";
      break;
    case Takes::kModelOrFile:
      out +=
          "      COMPREPLY=($(compgen -W \"$(__llm_manager_models)\" -- \"$word\") $(compgen -f -- "
          "\"$word\"))\n";
      break;
    case Takes::kWord:
      out += fmt::format("      COMPREPLY=($(compgen -W {} -- \"$word\"))\n",
                         single_quoted(fmt::format("{}", fmt::join(command.words, " "))));
      break;
    case Takes::kNothing:
      break;
  }
  return out + "      ;;\n";
}

std::string bash(const std::vector<CommandShape>& commands) {
  std::string names;
  std::string cases;
  for (const CommandShape* command : top(commands)) names += (names.empty() ? "" : " ") + command->name;
  for (const CommandShape& command : commands) cases += bash_case(command);
  return fmt::format(R"bash(# bash completion of llm-manager, printed by: llm-manager completion bash
__llm_manager_models() {{
  llm-manager __models 2>/dev/null
}}
__llm_manager() {{
  local line=${{COMP_LINE:0:COMP_POINT}} i
  __llm_manager_replies
  [[ $COMP_WORDBREAKS == *:* && ${{line##*[[:space:]]}} == *:* ]] || return 0
  # What stands before the last colon is on the line already.
  line=${{line##*[[:space:]]}}
  for i in "${{!COMPREPLY[@]}}"; do COMPREPLY[i]=${{COMPREPLY[i]#"${{line%:*}}:"}}; done
}}
__llm_manager_replies() {{
  local word previous command i
  local -a words
  COMPREPLY=()
  word=${{COMP_WORDS[COMP_CWORD]}}
  previous=${{COMP_WORDS[COMP_CWORD-1]}}
  command=
  # bash splits words at colons, which the names of Ollama's models have.
  if [[ $COMP_WORDBREAKS == *:* && ${{line##*[[:space:]]}} == *:* ]]; then
    read -ra words <<< "$line"
    word=${{words[-1]}}
    previous=${{words[-2]}}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${{COMP_WORDS[i]}}" in
      -*) ;;
      *)
        if [[ -z $command ]]; then
          command=${{COMP_WORDS[i]}}
          case "$command" in {0}) continue ;; esac
        else
          case "$command" in {0}) command="$command ${{COMP_WORDS[i]}}" ;; esac
        fi
        break
        ;;
    esac
  done
  case "$command" in
{1}    *)
      COMPREPLY=($(compgen -W {2} -- "$word"))
      ;;
  esac
}}
complete -F __llm_manager llm-manager
)bash",
                     parents_of(commands), cases, single_quoted(names + " --help --version"));
}

// In zsh's specifications a colon and brackets mean something.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ':' || c == '[' || c == ']') out += '\\';
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out;
}

std::string_view zsh_action(Option::Value value) {
  switch (value) {
    case Option::Value::kFile:
      return ":file:_files";
    case Option::Value::kFolder:
      return ":folder:_files -/";
    case Option::Value::kModel:
      return ":model:__llm_manager_models";
    case Option::Value::kText:
      return ":text: ";
    case Option::Value::kNone:
      break;
  }
  return "";
}

std::string zsh_arguments(const CommandShape& command) {
  std::string out;
  for (const Option& option : command.options) {
    for (const std::string& name : option.names) {
      out += fmt::format(" \\\n        '{}[{}]{}'", name, zsh_text(option.help), zsh_action(option.value));
    }
  }
  switch (command.takes) {
    case Takes::kModel:
      out += " \\\n        '*:model:__llm_manager_models'";
      break;
    case Takes::kFile:
      out += " \\\n        '*:file:_files'";
      break;
    case Takes::kModelOrFile:
      out += " \\\n        '*:model or file:__llm_manager_models_or_files'";
      break;
    case Takes::kWord:
      out += fmt::format(" \\\n        '*:word:({})'", fmt::join(command.words, " "));
      break;
    case Takes::kNothing:
      break;
  }
  return out;
}

std::string zsh(const std::vector<CommandShape>& commands) {
  std::string names;
  for (const CommandShape* command : top(commands)) {
    names += fmt::format("    '{}:{}'\n", command->name, zsh_text(command->help));
  }
  std::string cases;
  for (const CommandShape& command : commands) {
    cases += fmt::format("    {})\n      _arguments{}\n      ;;\n", single_quoted(command.name),
                         zsh_arguments(command));
  }
  return fmt::format(R"zsh(#compdef llm-manager
# zsh completion of llm-manager, printed by: llm-manager completion zsh
__llm_manager_models() {{
  local -a names
  names=(${{(f)"$(llm-manager __models 2>/dev/null)"}})
  compadd -a names
}}
__llm_manager_models_or_files() {{
  __llm_manager_models
  _files
}}
_llm_manager() {{
  local -a commands
  local command
  commands=(
{0}  )
  if (( CURRENT == 2 )); then
    _describe 'command' commands
    return
  fi
  command=${{words[2]}}
  if [[ $command == ({2}) && $CURRENT -gt 3 ]]; then
    command="$command ${{words[3]}}"
    shift words
    (( CURRENT-- ))
  fi
  shift words
  (( CURRENT-- ))
  case "$command" in
{1}  esac
}}
if [[ ${{funcstack[1]}} == _llm-manager ]]; then
  _llm_manager "$@"
else
  compdef _llm_manager llm-manager
fi
)zsh",
                     names, cases, parents_of(commands));
}

std::string fish(const std::vector<CommandShape>& commands) {
  std::string out = R"(# fish completion of llm-manager, printed by: llm-manager completion fish
function __llm_manager_models
    llm-manager __models 2>/dev/null
end
complete -c llm-manager -f
)";
  for (const CommandShape* command : top(commands)) {
    out += fmt::format("complete -c llm-manager -n __fish_use_subcommand -a {} -d {}\n", command->name,
                       single_quoted(command->help));
  }
  for (const CommandShape& command : commands) {
    std::string seen;
    std::string_view rest = command.name;
    while (!rest.empty()) {
      const std::size_t space = std::min(rest.find(' '), rest.size());
      seen += fmt::format("{}__fish_seen_subcommand_from {}", seen.empty() ? "" : "; and ",
                          rest.substr(0, space));
      rest.remove_prefix(std::min(space + 1, rest.size()));
    }
    const std::string prefix = fmt::format("complete -c llm-manager -n {}", single_quoted(seen));
    for (const Option& option : command.options) {
      out += prefix;
      for (const std::string& name : option.names) {
        out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      out += " -d " + single_quoted(option.help);
      if (option.value == Option::Value::kFile)
        out += " -r -F";
      else if (option.value == Option::Value::kFolder)
        out += " -x -a '(__fish_complete_directories)'";
      else if (option.value == Option::Value::kModel)
        out += " -x -a '(__llm_manager_models)'";
      else if (option.value == Option::Value::kText)
        out += " -x";
      out += "\n";
    }
    if (command.takes == Takes::kModel || command.takes == Takes::kModelOrFile)
      out += prefix + " -a '(__llm_manager_models)'\n";
    if (command.takes == Takes::kFile || command.takes == Takes::kModelOrFile) out += prefix + " -F\n";
    if (command.takes == Takes::kWord)
      out += prefix + fmt::format(" -a '{}'\n", fmt::join(command.words, " "));
  }
  return out;
}

}  // namespace

std::optional<std::string> completion_script(std::string_view shell,
                                             const std::vector<CommandShape>& commands) {
  if (shell == "bash") return bash(commands);
  if (shell == "zsh") return zsh(commands);
  if (shell == "fish") return fish(commands);
  return std::nullopt;
}

}  // namespace lm::cli
