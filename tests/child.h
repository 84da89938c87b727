/* A piece of work in a forked child. */

#pragma once

#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#if defined(__SANITIZE_THREAD__)
constexpr bool kForkWorks = false; ///< TSan ends a child with threads
#else
constexpr bool kForkWorks = true;
#endif

/// Whether LLVM's OpenMP serves this process. It starts anew in a child, but
/// (14, 16 and 19 tried) without its table of locks: the next omp_init_lock()
/// crashes if the parent had made one, as Faiss' HNSW does.
inline bool openmp_of_llvm() {
    return dlsym(RTLD_DEFAULT, "__kmpc_fork_call") != nullptr;
}

/// What becomes of a child that calls work(): "" if it returns true in time.
template <class Work>
std::string in_child(Work&& work) {
    constexpr auto kLimit = std::chrono::seconds(60);
    pid_t child = fork();
    if (child == 0) {
        int status = 1;
        try {
            status = work() ? 0 : 1;
        } catch (...) {
            status = 2;
        }
        _exit(status);
    }
    using Clock = std::chrono::steady_clock;
    auto begin = Clock::now();
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (Clock::now() - begin > kLimit) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return "the child hangs";
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return status == 0 ? "" : "the child ended with " + std::to_string(status);
}
