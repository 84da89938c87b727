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

    std::vector<int64_t> lists(n), spilled(n);
    std::vector<float> out(n * d), storage;
    std::vector<uint8_t> codes(n * index.pq().M());
    index.partition().assign(n, x.data(), lists.data());
    index.partition().assign_spilled(
            n, x.data(), lists.data(), 1, spilled.data());
    index.partition().assign_both(n, x.data(), 1, lists.data(), spilled.data());
    index.partition().score(x.data(), 0);
    index.partition().probes(
            1,
            x.data(),
            4,
            faiss_ext::ProbeScores::Exact,
            lists.data(),
            out.data());
    index.rotation().apply(n, x.data(), out.data());
    index.rotation().apply_transposed(n, x.data(), out.data());
    index.rotation().rotated(x.data(), storage);
    index.rotation().rotated_roughly(x.data(), storage);
    index.pq().encode(n, x.data(), x.data(), codes.data());
    index.pq().decode(n, codes.data(), out.data());
    float factor = index.score_term().query_factor(d, x.data());
    float term = index.score_term().term(d, x.data(), x.data(), out.data());
    index.score_term().decode(
            index.score_term().encode(d, x.data(), x.data(), out.data(), true));
    index.score_term().shift(d, x.data(), x.data(), out.data());
    const float* query = index.trained().from_origin(1, x.data(), storage);
    size_t bytes = index.partition().memory_usage() +
                   index.rotation().memory_usage() +
                   index.lists().memory_usage() +
                   faiss_ext::Partition::estimate_memory(16, d, false, true) +
                   faiss_ext::Rotation::estimate_memory(d) +
                   index.lists().layout().refine_value_bytes();
    faiss_ext::NearestRows nearest(n, d, x.data(), false);
    nearest.find(1, x.data(), lists.data());
    faiss_ext::BytePanels panels(n, d, x.data());
    faiss_ext::ByteQueries queries;
    queries.set(panels, 1, x.data(), nullptr);
    panels.error(queries, 0, panels.length_near(queries, 0));
    faiss_ext::balanced_weights({1, 2});
    faiss_ext::list_gains(1, d, x.data(), {1}, false);
    faiss_ext::ScoreAwarePQ pq(faiss_ext::uniform_block_offsets(d, 2));
    pq.set_codebook(index.pq().codebook().data(), 1);
    faiss_ext::even_block_offsets(d, 3);
    double eta = faiss_ext::eta_from_threshold(.2, 1, d);
    faiss_ext::threshold_from_eta(eta, 1, d);
    faiss_ext::score_aware_loss(x.data(), out.data(), d, eta);
    std::unique_ptr<faiss_ext::ScaNNLists> copy = index.lists().copy();
    faiss_ext::set_simd_level(faiss_ext::simd_levels().back());
    bool fine = bytes > 0 && factor >= 0 && term == term && query &&
                index.notes().empty() && lists[0] >= 0 && eta > 1 &&
                faiss_ext::simd_level() == "NONE" &&
                index.lists().copy()->list_size(0) == copy->list_size(0);
    std::puts(fine ? "linked" : "wrong values");
    return !fine;
}
