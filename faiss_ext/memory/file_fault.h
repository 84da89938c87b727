/* Errors of the disk, told from those of the caller's arguments: Python has two
 * kinds of exceptions. */

#pragma once

#include <string>
#include <utility>

#include <faiss/impl/FaissException.h>

namespace faiss_ext {

/// A file cannot be read or written, whatever was called.
struct FileFault : faiss::FaissException {
    using faiss::FaissException::FaissException;
};

/// @param what  begins the message, which ends with what errno means
/// @throws FileFault
[[noreturn]] void fail_with_errno(const char* what, const std::string& path);

/// A mistake of the caller in a call that reads or writes a file.
struct ArgumentFault : faiss::FaissException {
    using faiss::FaissException::FaissException;
};

/// Exceptions of `work` are FileFault.
template <class Work>
auto with_file(Work&& work) {
    try {
        return std::forward<Work>(work)();
    } catch (const faiss::FaissException& error) {
        throw FileFault(error.what());
    }
}

} // namespace faiss_ext
