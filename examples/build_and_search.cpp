/* Build an index, filter a search, save the index, open it by mmap. */

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>

#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include <faiss/impl/IDSelector.h>

int main(int argc, char** argv) {
    const char* path = argc > 1 ? argv[1] : "rows.scann";
    constexpr size_t d = 64, n = 20000, k = 3;
    std::mt19937 random(0);
    std::normal_distribution<float> normal;
    std::vector<float> rows(n * d);
    for (float& value : rows) {
        value = normal(random);
    }

    std::unique_ptr<faiss::Index> index(faiss_ext::index_factory(
            d, "IVF128,ScaNN,RFlat", faiss::METRIC_L2));
    index->train(n, rows.data());
    index->add(n, rows.data());

    faiss_ext::SearchParametersScaNN params;
    params.nprobe = 16;
    params.reorder_k = 50;
    faiss::IDSelectorRange high(10000, 20000); // ids that may be returned
    params.sel = &high;
    std::vector<float> distances(k);
    std::vector<int64_t> ids(k);
    const float* query = rows.data() + 12345 * d;
    index->search(1, query, k, distances.data(), ids.data(), &params);
    std::printf("nearest: %lld\n", (long long)ids[0]);

    faiss_ext::write_index(index.get(), path);
    std::unique_ptr<faiss::Index> mapped(
            faiss_ext::read_index(path, faiss_ext::ReadMode::Mmap));
    mapped->search(1, query, k, distances.data(), ids.data(), &params);
    std::printf("from the file: %lld\n", (long long)ids[0]);
}
