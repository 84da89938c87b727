#include <faiss_ext/index_io.h>

#include <algorithm>

#include <faiss/IndexPreTransform.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/index_io.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/train.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/io/faiss_rows.h>
#include <faiss_ext/io/regular_files.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/wrappers/faiss_training.h>

namespace faiss_ext {

namespace {

/// Rows that codes and figures of the lists are trained on (train_codes,
/// measure_lists() takes no more).
constexpr size_t kTrainingRows = 65536;
constexpr size_t kTrainingRowsPerList = 32;
/// Floats of the rows that are added at a time.
constexpr size_t kFloatsAtATime = size_t(1) << 24;
/// Codes may decode to so many values a byte of the index, or so many in all:
/// rows of 4096 dimensions in 16 bytes, never those of 65536 in one.
constexpr size_t kMostValuesPerByte = 256;
constexpr size_t kFreeValues = size_t(1) << 26;

std::string default_description(const FaissRows& rows) {
    switch (rows.storage()) {
        case RowStorage::Raw:
            return rows.has_lists() ? "ScaNN,RFlat" : "ScaNN";
        case RowStorage::FP16:
            return "ScaNN,SQfp16";
        case RowStorage::BF16:
            return "ScaNN,SQbf16";
        case RowStorage::Codes:
            return "ScaNN,SQ8";
    }
    return "";
}

/// Memory stays in proportion to the bytes.
void check_values(const FaissRows& rows, size_t bytes) {
    const size_t most = std::max(kFreeValues, kMostValuesPerByte * bytes);
    FAISS_THROW_IF_NOT_FMT(
            rows.storage() == RowStorage::Raw || rows.n() <= most / rows.d(),
            "%zu rows of %zu dimensions in the codes of %zu bytes (allowed: "
            "%zu rows, %zu values a byte)",
            rows.n(),
            rows.d(),
            bytes,
            most / rows.d(),
            kMostValuesPerByte);
}

/// Untrained, with the centroids of the lists, if there are any.
std::unique_ptr<IndexIVFScaNN> new_index(
        const FaissRows& rows,
        const std::string& wanted) {
    const std::string description =
            wanted.empty() ? default_description(rows) : wanted;
    std::unique_ptr<faiss::Index> made(
            index_factory(int(rows.d()), description, rows.metric()));
    auto scann = dynamic_cast<IndexIVFScaNN*>(made.get());
    FAISS_THROW_IF_NOT_FMT(
            scann != nullptr,
            "description \"%s\" (allowed: [IVF<nlist>,]ScaNN..; IDMap and "
            "transforms are those of the index)",
            description.c_str());
    made.release();
    std::unique_ptr<IndexIVFScaNN> index(scann);
    if (!rows.has_lists()) {
        return index;
    }
    const size_t nlist = rows.nlist();
    FAISS_THROW_IF_NOT_FMT(
            index->nlist == 0 || index->nlist == nlist,
            "description \"%s\" has %zu lists, the index has %zu, which are "
            "taken over (allowed: IVF%zu, or none)",
            description.c_str(),
            index->nlist,
            nlist,
            nlist);
    index->nlist = nlist;
    index->nprobe = rows.nprobe() == 1 ? 0 : std::min(rows.nprobe(), nlist);
    const std::vector<float> centroids = rows.centroids();
    FAISS_THROW_IF_NOT_MSG(
            all_finite(centroids.size(), centroids.data()),
            "a centroid has a NaN or infinite value in the space of the rows");
    if (!index->quantizer->is_trained) {
        index->quantizer->train(int64_t(nlist), centroids.data());
    }
    index->quantizer->add(int64_t(nlist), centroids.data());
    return index;
}

void train(IndexIVFScaNN& index, const FaissRows& rows) {
    const size_t d = rows.d();
    if (!rows.has_lists()) {
        std::vector<float> x(rows.n() * d);
        rows.get(0, rows.n(), x.data(), nullptr, nullptr);
        index.train(int64_t(rows.n()), x.data());
        return;
    }
    const std::vector<size_t> sample = sample_rows(
            rows.n(),
            std::max(kTrainingRows, kTrainingRowsPerList * rows.nlist()),
            index.options.seed);
    std::vector<float> x(sample.size() * d);
    std::vector<int64_t> lists(sample.size());
    for (size_t i = 0; i < sample.size(); i++) {
        rows.get(sample[i], sample[i] + 1, &x[i * d], nullptr, &lists[i]);
    }
    train_in_lists(index, sample.size(), x.data(), lists.data());
}

void add(
        IndexIVFScaNN& index,
        const FaissRows& rows,
        const ScaNNProgress& progress) {
    const size_t d = rows.d();
    // what is added in one call costs as much as there are lists, at least
    const size_t most = std::max(kFloatsAtATime / d, rows.nlist());
    const size_t step = std::min(most, rows.n());
    std::vector<float> x(step * d);
    std::vector<int64_t> ids(step), lists(step);
    for (size_t begin = 0; begin < rows.n(); begin += step) {
        const size_t n = std::min(step, rows.n() - begin);
        rows.get(begin, begin + n, x.data(), ids.data(), lists.data());
        if (progress) {
            index.progress = [&](const char* stage, size_t done, size_t) {
                progress(stage, begin + done, rows.n());
            };
        }
        if (rows.has_lists()) {
            index.add_core(int64_t(n), x.data(), ids.data(), lists.data());
        } else {
            index.add_with_ids(int64_t(n), x.data(), ids.data());
        }
    }
}

std::unique_ptr<faiss::Index> behind_transforms(
        std::vector<std::unique_ptr<faiss::VectorTransform>> transforms,
        std::unique_ptr<faiss::Index> index) {
    if (transforms.empty()) {
        return index;
    }
    auto chain = std::make_unique<faiss::IndexPreTransform>(index.get());
    index.release();
    chain->own_fields = true;
    while (!transforms.empty()) {
        chain->prepend_transform(transforms.back().get());
        transforms.back().release();
        transforms.pop_back();
    }
    return chain;
}

std::unique_ptr<faiss::Index> import_bytes(
        std::span<const uint8_t> bytes,
        const FaissImport& how,
        std::vector<std::string>* notes) {
    const FaissRows rows(check_faiss_layers(bytes));
    FAISS_THROW_IF_NOT_MSG(
            rows.n() > 0,
            "the index holds no rows, which codes are trained on");
    check_values(rows, bytes.size());
    std::unique_ptr<IndexIVFScaNN> index = new_index(rows, how.description);
    index->progress = how.progress;
    train(*index, rows);
    add(*index, rows, how.progress);
    index->progress = nullptr;
    if (rows.finds_ids()) {
        index->set_direct_map_type(faiss::DirectMap::Hashtable);
    }
    if (notes != nullptr && rows.storage() != RowStorage::Raw) {
        notes->push_back(
                std::string("The index has no raw rows: those taken over are "
                            "what the codes of its ") +
                rows.storage_name() +
                " decode to, and distances are to these.");
    }
    std::unique_ptr<faiss::Index> root =
            behind_transforms(rows.transforms(), std::move(index));
    make_silent(root);
    return root;
}

/// Says what was to be done.
template <class Work>
faiss::Index* importing(Work&& work) {
    try {
        return work().release();
    } catch (const faiss::FaissException& error) {
        FAISS_THROW_FMT("cannot import from Faiss: %s", error.what());
    }
}

} // namespace

faiss::Index* import_from_faiss(
        const uint8_t* bytes,
        size_t size,
        const FaissImport& how,
        std::vector<std::string>* notes) {
    return importing([&] { return import_bytes({bytes, size}, how, notes); });
}

faiss::Index* import_from_faiss(
        const std::string& path,
        const FaissImport& how,
        std::vector<std::string>* notes) {
    return importing([&] {
        InputFile file(path);
        std::shared_ptr<const uint8_t> memory = file.map();
        return import_bytes({memory.get(), size_t(file.size())}, how, notes);
    });
}

faiss::Index* import_from_faiss(
        const faiss::Index* index,
        const FaissImport& how,
        std::vector<std::string>* notes) {
    return importing([&] {
        FAISS_THROW_IF_NOT_MSG(
                find_scann(index) == nullptr, "it is a ScaNN index already");
        faiss::VectorIOWriter writer;
        faiss::write_index(index, &writer);
        return import_bytes(writer.data, how, notes);
    });
}

} // namespace faiss_ext
