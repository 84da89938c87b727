#include <faiss_ext/index/set_model.h>

#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/memory/row_products.h>

namespace faiss_ext {

namespace {

/// Root mean square of the codewords' values in each coded dimension: how much
/// the dimension of a query matters for its table.
std::vector<float> codeword_spread(const ScoreAwarePQ& pq) {
    std::vector<float> spread(pq.d());
    for (size_t i = 0; i < pq.d(); i++) {
        const float* values = pq.codebook().data() + i * kernels::kCodewords;
        spread[i] = float(std::sqrt(
                precise_square(kernels::kCodewords, values) /
                kernels::kCodewords));
    }
    return spread;
}

} // namespace

void take_lists(IndexIVFScaNN& index, ListSets sets) {
    IndexState& state = index.state();
    // not replace_invlists(), which wants nlist of them before training too
    if (index.own_invlists) {
        delete index.invlists; // Faiss' own, of its constructor
    }
    index.own_invlists = false; // they are the state's
    index.invlists = sets.lists.get();
    index.code_size = sets.lists->code_size;
    state.lists = std::move(sets.lists);
    state.spilled = std::move(sets.spilled);
    state.copy_places.reset();
    state.plan.reset();
}

void set_model(IndexIVFScaNN& index, ScaNNModel model, ListSets sets) {
    IndexState& state = index.state();
    FAISS_THROW_IF_NOT(model.list_spread.size() == index.nlist);
    FAISS_THROW_IF_NOT(model.pq.d() <= state.d());
    FAISS_THROW_IF_NOT(sets.lists->nlist == index.nlist);
    FAISS_THROW_IF_NOT(
            (sets.spilled != nullptr) == (index.options.soar_lambda > 0));
    model.rotation.set_importance(codeword_spread(model.pq));
    SharedValue<Partition> partition = make_partition(state, model);
    SharedValue<ScaNNModel> shared = std::move(model);
    // nothing fails from here on
    state.model.swap(shared);
    state.partition.swap(partition);
    state.quantizer_is_flat = flat_quantizer(state) != nullptr;
    take_lists(index, std::move(sets));
    index.is_trained = true;
}

void set_model(IndexIVFScaNN& index, ScaNNModel model) {
    ListSets empty = empty_lists(index.state(), index.nlist);
    set_model(index, std::move(model), std::move(empty));
}

} // namespace faiss_ext
