/* Every kind of function that the installed headers declare, called by a
 * program of its own: what is declared must link. (tests/package/test_declarations
 * finds each single one, where there is clang.) */

#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/simd_level.h>

int main() {
    constexpr size_t d = 16, n = 1000;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(n * d);
    for (float& value : x) {
        value = normal(random);
    }
    faiss_ext::IndexIVFScaNN index(d, 16);
    index.train(n, x.data());
    index.add(n, x.data());

    faiss_ext::set_simd_level(faiss_ext::simd_levels().back());
    bool fine = index.memory_usage() > 0 && index.estimate_memory(n) > 0 &&
                index.notes().empty() && faiss_ext::simd_level() == "NONE";
    std::puts(fine ? "linked" : "wrong values");
    return !fine;
}
