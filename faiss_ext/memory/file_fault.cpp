#include <faiss_ext/memory/file_fault.h>

#include <cerrno>
#include <system_error>

namespace faiss_ext {

void fail_with_errno(const char* what, const std::string& path) {
    const int error = errno; // strings may change it
    throw FileFault(
            std::string(what) + " " + path + ": " +
            std::generic_category().message(error));
}

} // namespace faiss_ext
