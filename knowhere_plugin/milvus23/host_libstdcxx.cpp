/*
 * What compilers newer than the host's call in libstdc++, defined here: the
 * host brings along the libstdc++ of GCC 11, and the engine has to share it
 * (its empty old string is compared by address), so it cannot bring its own.
 *
 * tests/package/test_plugin_symbols says what a next compiler adds.
 */

#include <condition_variable>
#include <exception>
#include <ios>
#include <mutex>
#include <string>

#include <cxxabi.h>
#include <pthread.h>

#define FAISS_EXT_SYMBOL(name) __asm__(name) __attribute__((used))

// GCC 12: wait() with another version, since it may now be cancelled
extern "C" void faiss_ext_wait(
        std::condition_variable* condition,
        std::unique_lock<std::mutex>* lock)
        FAISS_EXT_SYMBOL(
                "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE");

void faiss_ext_wait(
        std::condition_variable* condition,
        std::unique_lock<std::mutex>* lock) {
    pthread_cond_wait(
            condition->native_handle(), lock->mutex()->native_handle());
}

#if _GLIBCXX_RELEASE >= 13
// GCC 13: a cold part of replace(), and streams that the library itself makes
// ready; an older library leaves that to those that use them
template void std::string::_M_replace_cold(
        char*,
        std::string::size_type,
        const char*,
        const std::string::size_type,
        const std::string::size_type);

namespace {
const std::ios_base::Init streams;
}

extern "C" void faiss_ext_streams()
        FAISS_EXT_SYMBOL("_ZSt21ios_base_library_initv");

void faiss_ext_streams() {}
#endif

#if _GLIBCXX_RELEASE >= 14
// GCC 14: where an exception leaves a noexcept function
extern "C" [[noreturn]] void faiss_ext_call_terminate(void* exception)
        FAISS_EXT_SYMBOL("__cxa_call_terminate");

void faiss_ext_call_terminate(void* exception) {
    abi::__cxa_begin_catch(exception);
    std::terminate();
}
#endif
