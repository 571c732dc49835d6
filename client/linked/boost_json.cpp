// Boost.JSON compiled into the shared library: Debian's static one is for programs only, and a shared one
// would be a thing more that users must have.
#include <boost/json/src.hpp>
