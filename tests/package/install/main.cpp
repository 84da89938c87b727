/* A user's program: our library holds a Faiss of its own, this program another;
 * objects, exceptions and type information must cross the border. */

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/IDSelector.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/simd_level.h>
#include <faiss_ext/version.h>

namespace {

int failures = 0;

void check(bool fine, const char* what) {
    std::printf("%-48s %s\n", what, fine ? "ok" : "FAILED");
    failures += !fine;
}

std::vector<int64_t> search(const faiss::Index& index, const float* q, int n) {
    std::vector<float> distances(n * 10);
    std::vector<int64_t> labels(n * 10);
    faiss_ext::SearchParametersScaNN params;
    params.nprobe = 32;
    index.search(n, q, 10, distances.data(), labels.data(), &params);
    return labels;
}

} // namespace

static_assert(
        FAISS_EXT_VERSION_NUMBER == FAISS_EXT_VERSION_MAJOR * 10000 +
                                            FAISS_EXT_VERSION_MINOR * 100 +
                                            FAISS_EXT_VERSION_PATCH);

/// the macros of the header and the version of the CMake package are one
bool version_is_that_of_the_package() {
    const std::string parts = std::to_string(FAISS_EXT_VERSION_MAJOR) + "." +
                              std::to_string(FAISS_EXT_VERSION_MINOR) + "." +
                              std::to_string(FAISS_EXT_VERSION_PATCH);
    return parts == PACKAGE_VERSION && parts == FAISS_EXT_VERSION_STRING;
}

bool exception_is_caught(int d) {
    try {
        delete faiss_ext::index_factory(d, "IVF32,ScaNN(eta=0.5)");
    } catch (const faiss::FaissException& error) {
        return *error.what() != 0;
    }
    return false;
}

int main() {
    check(version_is_that_of_the_package(), "version of headers and package");
    const int d = 32, n = 5000, nq = 50;
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(size_t(n) * d);
    for (float& value : x) {
        value = normal(random);
    }

    std::unique_ptr<faiss::Index> index(
            faiss_ext::index_factory(d, "IVF32,ScaNN,RFlat", faiss::METRIC_L2));
    index->train(n, x.data());
    index->add(n, x.data());
    check(index->ntotal == n, "factory, train, add");
    check(!faiss_ext::simd_levels().empty(), "kernels chosen");

    faiss::IndexFlatL2 exact(d);
    exact.add(n, x.data());
    std::vector<float> distances(nq * 10);
    std::vector<int64_t> truth(nq * 10);
    exact.search(nq, x.data(), 10, distances.data(), truth.data());
    std::vector<int64_t> found = search(*index, x.data(), nq);
    int hits = 0;
    for (int i = 0; i < nq * 10; i++) {
        for (int j = i / 10 * 10; j < i / 10 * 10 + 10; j++) {
            hits += found[i] == truth[j];
        }
    }
    check(hits >= nq * 10 * 9 / 10, "search in all lists: recall@10 >= 0.9");

    auto* ivf = dynamic_cast<faiss::IndexIVF*>(index.get());
    check(ivf != nullptr && ivf->nlist == 32,
          "dynamic_cast to faiss::IndexIVF");
    check(dynamic_cast<faiss_ext::IndexIVFScaNN*>(index.get()) != nullptr,
          "dynamic_cast to faiss_ext::IndexIVFScaNN");
    check(faiss_ext::find_scann(index.get()) != nullptr, "find_scann");

    check(exception_is_caught(d), "faiss::FaissException caught by its type");

    const std::string path = "consumer.scann";
    faiss_ext::write_index(index.get(), path);
    for (auto mode : {faiss_ext::ReadMode::Copy, faiss_ext::ReadMode::Mmap}) {
        std::unique_ptr<faiss::Index> again(faiss_ext::read_index(path, mode));
        check(search(*again, x.data(), nq) == found,
              mode == faiss_ext::ReadMode::Copy ? "write, read"
                                                : "write, open by mmap");
    }
    std::remove(path.c_str());

    // an object of this program's Faiss read by the library
    faiss::IDSelectorRange first(0, n / 2);
    check(index->remove_ids(first) == size_t(n / 2) && index->ntotal == n / 2,
          "remove_ids by a selector of this program");
    return failures != 0;
}
