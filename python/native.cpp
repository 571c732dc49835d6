// The C++ library as Python sees it: values become dicts, calls that take long take two callbacks. What the
// guide promises is made of it in llm_manager/*.py.
#include <llm_manager/client.h>
#include <memory>
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <string>
#include <utility>
#include <vector>

namespace py = pybind11;
using namespace py::literals;

namespace {

using llm_manager::Answer;
using llm_manager::Call;
using llm_manager::Change;
using llm_manager::Client;
using llm_manager::DeviceInfo;
using llm_manager::Embeddings;
using llm_manager::Error;
using llm_manager::ModelInfo;
using llm_manager::Result;

py::object exception_of(const Error& error) {
  py::dict details;
  for (const auto& [name, value] : error.details) details[py::str(name)] = value;
  return py::module_::import("llm_manager.errors")
      .attr("make")(static_cast<int>(error.code), error.message, error.reason, details);
}

[[noreturn]] void raise(const Error& error) {
  const py::object exception = exception_of(error);
  PyErr_SetObject(py::type::of(exception).ptr(), exception.ptr());
  throw py::error_already_set();
}

py::list to_python(const std::vector<DeviceInfo::Holder>& holders) {
  py::list list;
  for (const auto& holder : holders)
    list.append(py::dict("pid"_a = holder.pid, "name"_a = holder.name, "bytes"_a = holder.bytes));
  return list;
}

py::dict to_python(const DeviceInfo& device) {
  return py::dict("id"_a = device.id, "kind"_a = device.kind, "name"_a = device.name,
                  "usable"_a = device.usable, "capacity"_a = device.capacity, "used"_a = device.used,
                  "external"_a = device.external, "available"_a = device.available,
                  "holders"_a = to_python(device.holders));
}

py::dict to_python(const ModelInfo& model) {
  return py::dict("id"_a = model.id, "kind"_a = model.kind, "family"_a = model.family,
                  "aliases"_a = model.aliases, "roles"_a = model.roles, "state"_a = model.state,
                  "reason"_a = model.reason, "path"_a = model.path, "size"_a = model.size,
                  "pinned"_a = model.pinned, "active"_a = model.active, "waiting"_a = model.waiting,
                  "context"_a = model.context, "footprint"_a = model.footprint, "held"_a = model.held);
}

py::dict to_python(const Change& change) {
  py::dict out("changed"_a = change.changed, "took_s"_a = change.took_s, "release"_a = py::none());
  if (change.release) {
    out["release"] = py::dict("before"_a = change.release->before, "after"_a = change.release->after,
                              "freed"_a = change.release->freed, "expected"_a = change.release->expected,
                              "residual"_a = change.release->residual, "proved"_a = change.release->proved,
                              "holders"_a = to_python(change.release->holders));
  }
  return out;
}

py::list to_python(const std::vector<llm_manager::Passage>& passages) {
  py::list list;
  for (const auto& passage : passages) {
    list.append(py::dict("content"_a = passage.text, "source"_a = passage.source,
                         "similarity"_a = passage.similarity));
  }
  return list;
}

py::dict to_python(const Answer& answer) {
  return py::dict("text"_a = answer.text, "reasoning"_a = answer.reasoning,
                  "finish_reason"_a = answer.finish_reason, "model"_a = answer.model,
                  "prompt_tokens"_a = answer.prompt_tokens, "answer_tokens"_a = answer.answer_tokens,
                  "turns_left_out"_a = answer.turns_left_out, "passages"_a = to_python(answer.passages));
}

// float32, rows by columns; the array owns the numbers.
py::array to_python(Embeddings embeddings) {
  auto* const values = new std::vector<float>(std::move(embeddings.values));
  const py::capsule owner(values, [](void* p) { delete static_cast<std::vector<float>*>(p); });
  return py::array_t<float>({embeddings.rows, embeddings.columns}, values->data(), owner);
}

// A Python function that is called and dropped on the client's thread, which holds no GIL.
class Callback {
 public:
  explicit Callback(py::function function)
      : function_(new py::function(std::move(function)), [](py::function* one) {
          // Of an interpreter that has ended nothing can be given back.
          if (Py_IsInitialized() == 0) return;
          const py::gil_scoped_acquire gil;
          delete one;
        }) {}

  // What it raises is printed as of a thread: there is nobody to catch it.
  template <class... Args>
  void call(Args&&... args) const {
    try {
      (*function_)(std::forward<Args>(args)...);
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("a callback of llm_manager");
    }
  }

 private:
  std::shared_ptr<py::function> function_;
};

// done(value, None) or done(None, exception).
template <class T>
Client::Done<T> done_of(py::function function) {
  return [callback = Callback(std::move(function))](Result<T> result) {
    const py::gil_scoped_acquire gil;
    if (result) {
      callback.call(to_python(*std::move(result)), py::none());
    } else {
      callback.call(py::none(), exception_of(result.error()));
    }
  };
}

// The value of a call that blocks; `ask` runs without the GIL.
template <class Ask>
auto waited(Ask ask) {
  auto result = [&] {
    const py::gil_scoped_release unlocked;
    return ask();
  }();
  if (!result) raise(result.error());
  return *std::move(result);
}

template <class T>
py::list list_of(const std::vector<T>& values) {
  py::list list;
  for (const T& value : values) list.append(to_python(value));
  return list;
}

// A key that is missing or None is empty.
template <class T>
std::optional<T> optional_of(const py::dict& values, const char* name) {
  if (!values.contains(name) || values[name].is_none()) return std::nullopt;
  return values[name].cast<T>();
}

llm_manager::Question question_of(const py::dict& values) {
  llm_manager::Question question;
  question.prompt = values["prompt"].cast<std::string>();
  question.system = optional_of<std::string>(values, "system").value_or("");
  question.context = optional_of<std::string>(values, "context").value_or("");
  question.model = optional_of<std::string>(values, "model").value_or("chat");
  if (values.contains("history")) {
    for (const auto& [user, assistant] :
         values["history"].cast<std::vector<std::pair<std::string, std::string>>>())
      question.history.push_back({.user = user, .assistant = assistant});
  }
  if (values.contains("passages")) {
    for (const py::handle one : values["passages"]) {
      const auto passage = py::reinterpret_borrow<py::dict>(one);
      question.passages.push_back({.text = passage["content"].cast<std::string>(),
                                   .source = optional_of<std::string>(passage, "source").value_or(""),
                                   .similarity = optional_of<double>(passage, "similarity").value_or(0)});
    }
  }
  question.sampling = {.max_tokens = optional_of<int>(values, "max_tokens"),
                       .temperature = optional_of<double>(values, "temperature"),
                       .top_p = optional_of<double>(values, "top_p"),
                       .top_k = optional_of<int>(values, "top_k"),
                       .seed = optional_of<std::int64_t>(values, "seed")};
  return question;
}

Client open(const py::dict& values) {
  const auto text = [&](const char* name) { return optional_of<std::string>(values, name).value_or(""); };
  llm_manager::Options options{.url = text("url"),
                               .api_key = text("api_key"),
                               .configuration = text("configuration"),
                               .configuration_file = text("configuration_file"),
                               .program = text("program"),
                               .data = text("data"),
                               .client_name = text("client_name")};
  return waited([&] { return Client::open(options); });
}

// The last copy of a client waits for its thread, which may want the GIL.
struct UnlockedDelete {
  void operator()(Client* client) const {
    const py::gil_scoped_release unlocked;
    delete client;
  }
};

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "The C++ library behind llm_manager; use that.";

  py::class_<Call>(module, "Call").def("cancel", &Call::cancel);

  using Owned = std::unique_ptr<Client, UnlockedDelete>;
  // The forms that take `done` only queue the call: too little to give the GIL away for.
  py::class_<Client, Owned>(module, "Client")
      .def(py::init([](const py::dict& options) { return Owned(new Client(open(options))); }))
      .def("close", &Client::close, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("closed", &Client::closed)
      .def_property_readonly("address", &Client::address)
      .def_property_readonly("private_daemon", &Client::private_daemon)
      .def_property_readonly("warnings", &Client::warnings)
      .def("generate",
           [](Client& self, const py::dict& question, const py::object& on_text, py::function done) {
             Client::OnText hear;
             if (!on_text.is_none()) {
               hear = [callback = Callback(on_text.cast<py::function>())](std::string_view piece) {
                 const py::gil_scoped_acquire gil;
                 callback.call(py::str(piece.data(), piece.size()));
               };
             }
             return self.generate_async(question_of(question), std::move(hear),
                                        done_of<Answer>(std::move(done)));
           })
      .def("embed",
           [](Client& self, std::vector<std::string> texts, std::size_t batch, std::string model,
              py::function done) {
             return self.embed_async(std::move(texts), batch, std::move(model),
                                     done_of<Embeddings>(std::move(done)));
           })
      .def("load",
           [](Client& self, std::string model, bool force, py::function done) {
             return self.load_async(std::move(model), force, done_of<Change>(std::move(done)));
           })
      .def("unload",
           [](Client& self, std::string model, bool hold, py::function done) {
             return self.unload_async(std::move(model), hold, done_of<Change>(std::move(done)));
           })
      .def("switch_to",
           [](Client& self, std::string model, py::function done) {
             return self.switch_to_async(std::move(model), done_of<Change>(std::move(done)));
           })
      .def("optimize",
           [](Client& self, std::vector<std::string> keep, py::function done) {
             return self.optimize_async(std::move(keep), done_of<Change>(std::move(done)));
           })
      .def("tokenize",
           [](Client& self, const std::string& text, bool special, const std::string& model) {
             return waited([&] { return self.tokenize(text, special, model); });
           })
      .def("detokenize",
           [](Client& self, const std::vector<int>& tokens, const std::string& model) {
             return waited([&] { return self.detokenize(tokens, model); });
           })
      .def("apply_chat_template",
           [](Client& self, const std::vector<std::pair<std::string, std::string>>& messages,
              bool add_generation_prompt, const std::string& model) {
             std::vector<llm_manager::Message> list;
             for (const auto& [role, text] : messages) list.push_back({.role = role, .text = text});
             return waited([&] { return self.apply_chat_template(list, add_generation_prompt, model); });
           })
      .def("conversation_stats",
           [](const Client& self) {
             const auto stats = self.conversation_stats();
             return py::dict("conversation_count"_a = stats.conversation_count,
                             "current_mood"_a = stats.current_mood, "intimacy_level"_a = stats.intimacy_level,
                             "prompt_tokens"_a = stats.prompt_tokens, "answer_tokens"_a = stats.answer_tokens,
                             "average_response_time_s"_a = stats.average_answer_s,
                             "failures"_a = stats.failures);
           })
      .def("models", [](Client& self) { return list_of(waited([&] { return self.models(); })); })
      .def("model",
           [](Client& self, const std::string& name) {
             return to_python(waited([&] { return self.model(name); }));
           })
      .def("devices", [](Client& self) { return list_of(waited([&] { return self.devices(); })); })
      .def("system",
           [](Client& self) {
             const auto system = waited([&] { return self.system(); });
             return py::dict("version"_a = system.version, "engine"_a = system.engine, "pid"_a = system.pid,
                             "uptime_s"_a = system.uptime_s, "data"_a = system.data,
                             "log_file"_a = system.log_file, "warnings"_a = system.warnings);
           })
      .def("diagnose", [](Client& self) {
        py::list list;
        for (const auto& check : waited([&] { return self.diagnose(); })) {
          list.append(py::dict("name"_a = check.name, "status"_a = check.status, "message"_a = check.message,
                               "fix"_a = check.fix));
        }
        return list;
      });

  module.def("find_program", [](const std::string& named) {
    return waited([&] { return llm_manager::find_program(named); }).string();
  });
}
