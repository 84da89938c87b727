#include <faiss_ext/io/faiss_sections.h>

#include <utility>

#include <faiss/IndexFlat.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/index_io.h>

#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/memory/query_rows.h>

namespace faiss_ext {

namespace {

FaissExpected expected_quantizer(const IndexHeader& header) {
    FaissExpected expected;
    expected.kinds = {
            FaissKind::Flat,
            FaissKind::ScalarQuantizer,
            FaissKind::PQ,
            FaissKind::HNSWFlat,
            FaissKind::HNSWSQ,
            FaissKind::HNSWPQ,
            FaissKind::PreTransform};
    expected.d = int64_t(header.d);
    if (header.is_trained) {
        expected.ntotal = int64_t(header.nlist);
        expected.is_trained = true;
    }
    return expected;
}

/// Wrappers around an empty IndexFlat.
FaissExpected expected_tree(const IndexHeader& header) {
    FaissExpected expected;
    expected.kinds = {
            FaissKind::Flat,
            FaissKind::IDMap,
            FaissKind::IDMap2,
            FaissKind::PreTransform};
    expected.metric = metric_of(header);
    expected.ntotal = 0;
    return expected;
}

/// @param what  for the message
std::vector<uint8_t> readable_bytes(
        const faiss::Index& index,
        const FaissExpected& expected,
        const char* what) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    try {
        check_faiss_bytes(writer.data, expected);
    } catch (const faiss::FaissException& error) {
        FAISS_THROW_FMT("cannot write the index: %s: %s", what, error.what());
    }
    return std::move(writer.data);
}

std::unique_ptr<faiss::Index> from_faiss_bytes(
        ByteReader& section,
        const FaissExpected& expected) {
    std::vector<uint8_t> bytes = section.take();
    try {
        return read_faiss_bytes(bytes, expected);
    } catch (const faiss::FaissException& error) {
        section.fail(error.what());
    }
}

void check_centroids(const ByteReader& section, const faiss::Index& quantizer) {
    if (dynamic_cast<const faiss::IndexFlat*>(&quantizer) != nullptr) {
        return; // its floats are checked
    }
    std::vector<float> centroids(quantizer.ntotal * quantizer.d);
    try {
        quantizer.reconstruct_n(0, quantizer.ntotal, centroids.data());
    } catch (const faiss::FaissException& error) {
        section.fail(error.what());
    }
    section.check(
            all_finite(centroids.size(), centroids.data()),
            "a centroid has a NaN or infinite value");
}

} // namespace

faiss::MetricType metric_of(const IndexHeader& header) {
    return header.metric == 0 ? faiss::METRIC_INNER_PRODUCT : faiss::METRIC_L2;
}

std::vector<uint8_t> tree_bytes(
        const faiss::Index& wrappers,
        const IndexHeader& header) {
    return readable_bytes(wrappers, expected_tree(header), "its wrappers");
}

std::vector<uint8_t> quantizer_bytes(
        const faiss::Index& quantizer,
        const IndexHeader& header) {
    return readable_bytes(
            quantizer, expected_quantizer(header), "its quantizer");
}

std::unique_ptr<faiss::Index> get_tree(
        ByteReader& section,
        const IndexHeader& header) {
    return from_faiss_bytes(section, expected_tree(header));
}

std::unique_ptr<faiss::Index> get_quantizer(
        ByteReader reader,
        const IndexHeader& header) {
    std::unique_ptr<faiss::Index> quantizer =
            from_faiss_bytes(reader, expected_quantizer(header));
    if (header.is_trained) {
        // finite codebooks may decode to centroids that are not
        check_centroids(reader, *quantizer);
    }
    return quantizer;
}

} // namespace faiss_ext
