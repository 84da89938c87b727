#include <faiss_ext/io/build_plan.h>

#include <algorithm>

#include <omp.h>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/add.h>
#include <faiss_ext/index/train.h>
#include <faiss_ext/io/merge_runs.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/partition/grouped_nearest.h>

namespace faiss_ext {

namespace {

/// Runs are whole numbers of this many rows.
constexpr size_t kRunStep = 1024;
/// Files that a process may have open are often limited to 1,024.
constexpr size_t kMostRuns = 500;
/// Buffers of fixed size, and what malloc() keeps: of training, with any
/// dimensions; of adding and merging.
constexpr uint64_t kFixedTraining = uint64_t(52) << 20;
constexpr uint64_t kFixed = uint64_t(20) << 20;
/// Rows that a thread works on, and copies of them.
constexpr uint64_t kThreadRows = 128 * 4;
/// Training: rows that the codes learn from, and how many copies of their values
/// there are at the same time, in halves. Measured with 8 to 768 dimensions
/// (tests/io/test_build_index, docs/design-scale.md).
constexpr size_t kCodeRows = 32768;
constexpr size_t kHalfCopies = 9;
/// Matrices of d x d doubles at the same time, where a rotation is learned.
constexpr size_t kSquares = 3;
/// Bytes of a training row beside its values: its number, list and order.
constexpr size_t kSampledRow = 48;
/// Bytes of an added row beside its entry: its number, list, place and order, and
/// those of its copy.
constexpr size_t kAddedRow = 64;
constexpr size_t kAddedCopy = 40;

/// Bytes that each stage takes.
struct Stages {
    uint64_t training;
    uint64_t adding;  ///< without the rows of the run
    uint64_t per_row; ///< of a run
};

/// The model, and nlist lists without rows.
uint64_t model_bytes(const IndexState& state, size_t n, size_t nlist) {
    uint64_t rows = ScaNNLists::estimate_memory(state.lists->layout(), 0, n);
    uint64_t empty = nlist * sizeof(ScaNNList);
    if (state.spilled != nullptr) {
        rows += ScaNNLists::estimate_memory(state.spilled->layout(), 0, n);
        empty *= 2;
    }
    const uint64_t all = estimate_memory(state, n);
    return std::max(all > rows ? all - rows : 0, empty);
}

Stages stages_of(
        const IndexIVFScaNN& index,
        const BuildRows& rows,
        const TrainingSample& sample) {
    const IndexState& state = index.state();
    const uint64_t row = state.d() * sizeof(float);
    const uint64_t model = model_bytes(state, rows.n, sample.nlist);
    const uint64_t scaled = index.options.normalize ? 1 : 0;
    const uint64_t prepared =
            std::min(rows.n, rows_at_a_time(sample.nlist, state.d()));
    const bool converted = rows.type != RowType::Float32;
    const uint64_t threads =
            uint64_t(omp_get_max_threads()) * kThreadRows * row;
    const uint64_t rotation =
            index.options.rotation == RotationKind::None
                    ? 0
                    : kSquares * state.d() * state.d() * sizeof(double);
    Stages stages;
    stages.training =
            kFixedTraining + threads + model + rotation +
            sample.count * ((1 + scaled) * row + kSampledRow) +
            std::min(kCodeRows, sample.count) * kHalfCopies * row / 2 +
            2 * sample.nlist * row;
    stages.adding = kFixed + threads + model +
                    prepared * (converted + scaled) * row +
                    2 * sample.nlist * row;
    const size_t copy = state.spilled != nullptr ? kAddedCopy : 0;
    stages.per_row = uint64_t(bytes_per_vector(state.d(), index.options)) +
                     kAddedRow + copy +
                     (rows.in_memory ? 0 : state.d() * value_bytes(rows.type));
    return stages;
}

} // namespace

BuildPlan plan_build(
        const IndexIVFScaNN& index,
        const BuildRows& rows,
        uint64_t memory,
        size_t most) {
    const TrainingSample sample = training_sample(index, rows.n);
    FAISS_THROW_IF_NOT_FMT(
            rows.n / sample.nlist <= UINT32_MAX,
            "%zu rows in %zu lists (allowed: < 2^32 in a list); use more lists",
            rows.n,
            sample.nlist);
    const Stages stages = stages_of(index, rows, sample);
    // where lists are found by groups, runs end where parts of one large add()
    // would, which gives the same lists
    size_t part = rows_at_a_time(sample.nlist, index.state().d());
    if (!GroupedNearest::pays(part, sample.nlist)) {
        part = kRunStep;
    }
    const size_t least_parts = (rows.n / kMostRuns + part) / part;
    const size_t least_rows = std::min(rows.n, least_parts * part);
    RunLayout layout = RunLayout::of(index.state());
    layout.nlist = sample.nlist;
    const size_t most_runs = (rows.n + least_rows - 1) / least_rows;
    const uint64_t merging =
            kFixed + 2 * model_bytes(index.state(), rows.n, sample.nlist) +
            merge_memory(layout, most_runs);
    const uint64_t least = std::max(
            {stages.training,
             stages.adding + least_rows * stages.per_row,
             merging});
    FAISS_THROW_IF_NOT_FMT(
            memory >= least,
            "memory = %llu bytes (allowed: >= %llu for %zu rows of %zu "
            "dimensions, %zu lists, trained on %zu rows)",
            static_cast<unsigned long long>(memory),
            static_cast<unsigned long long>(least),
            rows.n,
            index.state().d(),
            sample.nlist,
            sample.count);
    size_t fitting = size_t((memory - stages.adding) / stages.per_row);
    if (most != 0) {
        fitting = std::min(fitting, most);
    }
    BuildPlan plan;
    plan.run_rows = std::max(least_rows, fitting / part * part);
    plan.result_bytes =
            uint64_t(
                    double(rows.n) *
                    bytes_per_vector(index.state().d(), index.options)) +
            model_bytes(index.state(), rows.n, sample.nlist);
    return plan;
}

} // namespace faiss_ext
