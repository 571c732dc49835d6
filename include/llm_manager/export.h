// What the shared library shows of itself.
#pragma once

#define LLM_MANAGER_API __attribute__((visibility("default")))
