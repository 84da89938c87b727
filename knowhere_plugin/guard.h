/*
 * Exceptions become a Status here, at the interface, and nowhere else.
 */

#pragma once

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include <knowhere_plugin/index_factory.h>

namespace knowhere_plugin {

/// An error with its status code; thrown inside the library only.
class Fault : public std::runtime_error {
 public:
    Fault(StatusCode code, const std::string& message)
            : std::runtime_error(message), code(code) {}

    StatusCode code;
};

/// The message of an exception, without the place in the source that Faiss puts
/// before it ("Error in <function> at <file>:<line>: ").
inline std::string text_of(const std::exception& error) {
    std::string text = error.what();
    if (text.starts_with("Error in ")) {
        size_t file = text.find(" at ");
        size_t end = text.find(": ", file);
        if (file != std::string::npos && end != std::string::npos) {
            text.erase(0, end + 2);
        }
    }
    return text;
}

/// The Status of the exception being handled.
inline Status status_in_flight() noexcept {
    try {
        try {
            throw;
        } catch (const Fault& fault) {
            return {fault.code, fault.what()};
        } catch (const std::bad_alloc&) {
            return {StatusCode::malloc_error, "out of memory"};
        } catch (const std::length_error& error) {
            return {StatusCode::malloc_error, error.what()};
        } catch (const std::exception& error) {
            return {StatusCode::faiss_inner_error, text_of(error)};
        } catch (...) {
            return {StatusCode::faiss_inner_error, "unknown exception"};
        }
    } catch (...) { // no memory for the message
        return {StatusCode::malloc_error, {}};
    }
}

/// work() -> void
template <class Work>
Status guarded(Work&& work) noexcept {
    try {
        work();
        return {};
    } catch (...) {
        return status_in_flight();
    }
}

/// work() -> T
template <class T, class Work>
Expected<T> guarded_value(Work&& work) noexcept {
    try {
        return Expected<T>(work());
    } catch (...) {
        return Expected<T>(status_in_flight());
    }
}

} // namespace knowhere_plugin
