/*
 * The one place that knows which levels exist and which of them run here.
 *
 * Adding an ISA: one row in cmake/kernels.cmake, one file, one entry below.
 */

#include <faiss_ext/kernels/dispatch.h>

#include <atomic>
#include <cstdlib>

#include <faiss/impl/FaissAssert.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace faiss_ext {

namespace kernels {
extern const Kernels avx512_kernels;
extern const Kernels avx2_kernels;
extern const Kernels neon_kernels;
extern const Kernels scalar_kernels;
} // namespace kernels

namespace {

using kernels::Kernels;

#if defined(__x86_64__)

/// The feature bits of CPUID, and the registers that the operating system saves
/// for a thread: without these the instructions fault, whatever CPUID says.
struct Cpu {
    unsigned leaf1_ecx = 0;
    unsigned leaf7_ebx = 0;
    unsigned leaf7_ecx = 0;
    unsigned saved_state = 0; ///< XCR0

    Cpu() {
        unsigned eax = 0, ebx = 0, edx = 0;
        if (!__get_cpuid(1, &eax, &ebx, &leaf1_ecx, &edx)) {
            return;
        }
        __get_cpuid_count(7, 0, &eax, &leaf7_ebx, &leaf7_ecx, &edx);
        if (leaf1_ecx & bit_OSXSAVE) {
            __asm__("xgetbv" : "=a"(saved_state), "=d"(edx) : "c"(0));
        }
    }
};

/// Asked once: in a virtual machine CPUID costs some 20 microseconds.
[[maybe_unused]] const Cpu& this_cpu() {
    static const Cpu cpu;
    return cpu;
}

[[maybe_unused]] bool has_avx2() {
    const Cpu& cpu = this_cpu();
    const unsigned leaf1 = bit_AVX | bit_FMA | bit_F16C;
    const unsigned state = 0x06; // XMM, YMM
    return (cpu.saved_state & state) == state &&
           (cpu.leaf1_ecx & leaf1) == leaf1 && (cpu.leaf7_ebx & bit_AVX2) != 0;
}

[[maybe_unused]] bool has_avx512() {
    const Cpu& cpu = this_cpu();
    const unsigned leaf7b =
            bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    const unsigned leaf7c = bit_AVX512VBMI | bit_AVX512VNNI;
    const unsigned state = 0xe6; // XMM, YMM, masks, both halves of ZMM
    return has_avx2() && (cpu.saved_state & state) == state &&
           (cpu.leaf7_ebx & leaf7b) == leaf7b &&
           (cpu.leaf7_ecx & leaf7c) == leaf7c;
}

#endif

bool always() {
    return true;
}

struct Level {
    const Kernels* kernels;
    bool (*runs_here)();
};

/// Best first. Zen 4, whose units are 256 bits wide, scans 45 to 52 GB/s with
/// the 512-bit kernels and 18 to 23 GB/s with the 256-bit ones (bench/kernels):
/// no CPU needs an exception yet.
const Level levels[] = {
#ifdef SCANN_HAVE_AVX512
        {&kernels::avx512_kernels, has_avx512},
#endif
#ifdef SCANN_HAVE_AVX2
        {&kernels::avx2_kernels, has_avx2},
#endif
#ifdef SCANN_HAVE_NEON
        {&kernels::neon_kernels, always}, // part of every ARMv8-A
#endif
        {&kernels::scalar_kernels, always},
};

const Kernels* find_level(const std::string& name) {
    std::string usable;
    for (const Level& level : levels) {
        if (!level.runs_here()) {
            continue;
        }
        if (name == level.kernels->name) {
            return level.kernels;
        }
        usable += usable.empty() ? "" : ", ";
        usable += level.kernels->name;
    }
    FAISS_THROW_FMT(
            "SIMD level '%s' is unknown, not compiled in, or not supported by "
            "this CPU; usable levels: %s",
            name.c_str(),
            usable.c_str());
}

const Kernels* first_choice() {
    const char* forced = std::getenv("SCANN_SIMD_LEVEL");
    return find_level(
            forced != nullptr && *forced != 0 ? forced : simd_levels().front());
}

std::atomic<const Kernels*> active{nullptr};

} // namespace

const Kernels& active_kernels() {
    const Kernels* now = active.load(std::memory_order_acquire);
    if (now == nullptr) {
        // two threads may both come here: they find the same table, and a
        // set_simd_level() in between wins
        const Kernels* first = first_choice();
        now = active.compare_exchange_strong(now, first) ? first : now;
    }
    return *now;
}

std::string simd_level() {
    return active_kernels().name;
}

std::vector<std::string> simd_levels() {
    std::vector<std::string> names;
    for (const Level& level : levels) {
        if (level.runs_here()) {
            names.push_back(level.kernels->name);
        }
    }
    return names;
}

void set_simd_level(const std::string& name) {
    active.store(find_level(name), std::memory_order_release);
}

} // namespace faiss_ext
