/* Every function that the installed headers declare, called by a program of its
 * own: what is declared must link. Methods are called by their class' name, so
 * that the linker has to find them. (tests/package/test_declarations compares
 * all declarations with what is exported, where there is clang.) */

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/build_index.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/scann_iterator.h>
#include <faiss_ext/scann_options.h>
#include <faiss_ext/simd_level.h>
#include <faiss_ext/versioned_scann.h>

using faiss_ext::IndexIVFScaNN;

namespace {

constexpr int64_t kD = 16, kN = 1000, kLists = 16, kK = 5;

std::vector<float> random_rows() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(kN * kD);
    for (float& value : x) {
        value = normal(random);
    }
    return x;
}

void build(IndexIVFScaNN& index, const std::vector<float>& x) {
    std::vector<int64_t> ids(kN), lists(kN, 1);
    for (int64_t i = 0; i < kN; i++) {
        ids[i] = kN + i;
    }
    index.IndexIVFScaNN::train(kN, x.data());
    index.IndexIVFScaNN::add(kN, x.data());
    index.IndexIVFScaNN::add_with_ids(kN, x.data(), ids.data());
    index.IndexIVFScaNN::add_core(1, x.data(), nullptr, lists.data());
    std::vector<uint8_t> codes(index.sa_code_size());
    index.IndexIVFScaNN::sa_encode(1, x.data(), codes.data());
    index.IndexIVFScaNN::add_sa_codes(1, codes.data(), nullptr);
    std::vector<float> out(kD);
    index.IndexIVFScaNN::sa_decode(1, codes.data(), out.data());
    index.IndexIVFScaNN::encode_vectors(
            1, x.data(), lists.data(), codes.data());
    index.IndexIVFScaNN::decode_vectors(
            1, codes.data(), lists.data(), out.data());
    index.IndexIVFScaNN::reconstruct_from_offset(1, 0, out.data());
}

bool search(IndexIVFScaNN& index, const std::vector<float>& x) {
    std::vector<float> distances(kK), rows(kK * kD);
    std::vector<int64_t> labels(kK), given(kK);
    index.IndexIVFScaNN::calibrate(20, x.data(), .9f, kK);
    faiss_ext::SearchParametersScaNN params;
    params.nprobe = kLists;
    index.IndexIVFScaNN::search(
            1, x.data(), kK, distances.data(), labels.data(), &params);
    index.IndexIVFScaNN::search_and_reconstruct(
            1, x.data(), kK, distances.data(), labels.data(), rows.data());
    std::vector<int64_t> lists(kLists);
    std::vector<float> centroid_distances(kLists);
    index.quantizer->search(
            1, x.data(), kLists, centroid_distances.data(), lists.data());
    index.IndexIVFScaNN::search_preassigned(
            1,
            x.data(),
            kK,
            lists.data(),
            centroid_distances.data(),
            distances.data(),
            given.data(),
            false,
            &params);
    if (index.IndexIVFScaNN::health().rows != size_t(index.ntotal)) {
        return false;
    }
    try {
        const int64_t tag = 1; // of an index without tags
        index.IndexIVFScaNN::set_tags(1, &tag, &tag);
        return false;
    } catch (const faiss::FaissException&) {
    }
    try {
        int64_t tag = 1;
        index.IndexIVFScaNN::get_tags(1, &tag, &tag);
        return false;
    } catch (const faiss::FaissException&) {
    }
    try {
        index.IndexIVFScaNN::maintain(); // of rows kept as codes alone
        return false;
    } catch (const faiss::FaissException&) {
    }
    auto pieces = index.IndexIVFScaNN::iterate(x.data(), kK);
    if (pieces->batch() != size_t(kK) || pieces->stale() ||
        pieces->next(distances.data(), labels.data()) != size_t(kK)) {
        return false;
    }
    faiss::RangeSearchResult all(1), some(1);
    index.IndexIVFScaNN::range_search(1, x.data(), 1e9f, &all, &params);
    index.IndexIVFScaNN::range_search_preassigned(
            1,
            x.data(),
            1e9f,
            lists.data(),
            centroid_distances.data(),
            &some,
            false,
            &params);
    std::unique_ptr<faiss::InvertedListScanner> scanner(
            index.IndexIVFScaNN::get_InvertedListScanner());
    std::unique_ptr<faiss::DistanceComputer> computer(
            index.IndexIVFScaNN::get_distance_computer());
    return scanner && computer && given[0] >= 0 && all.lims[1] == some.lims[1];
}

bool change(IndexIVFScaNN& index, const std::vector<float>& x) {
    using faiss::DirectMap;
    index.IndexIVFScaNN::set_direct_map_type(DirectMap::Hashtable);
    const int64_t id = 3;
    index.IndexIVFScaNN::update_vectors(1, &id, x.data());
    using faiss_ext::RowType;
    index.IndexIVFScaNN::train_rows(1, x.data(), RowType::Float32);
    const int64_t more = 5 * kN;
    index.IndexIVFScaNN::add_rows(1, x.data(), RowType::Float32, &more);
    index.IndexIVFScaNN::update_rows(1, &more, x.data(), RowType::Float32);
    float distance;
    int64_t found;
    index.IndexIVFScaNN::search_rows(
            1, x.data(), RowType::Float32, 1, &distance, &found);
    index.IndexIVFScaNN::make_direct_map(false);
    std::unique_ptr<faiss::Index> copy(faiss_ext::clone_index(&index));
    IndexIVFScaNN* other = faiss_ext::find_scann(copy.get());
    index.IndexIVFScaNN::check_compatible_for_merge(*other);
    other->IndexIVFScaNN::reset();
    index.IndexIVFScaNN::copy_subset_to(*other, faiss_ext::SubsetType(0), 0, 9);
    const bool copied = other->ntotal == 9;
    index.IndexIVFScaNN::merge_from(*other, 10 * kN);
#if FAISS_EXT_FAISS_VERSION >= 10704
    std::unique_ptr<faiss::CodePacker> packer(
            index.IndexIVFScaNN::get_CodePacker());
#endif
    const size_t gone =
            index.IndexIVFScaNN::remove_ids(faiss::IDSelectorRange(0, kN));
    return copied && gone == size_t(kN) && other->ntotal == 0;
}

bool versions(const faiss::Index& of, const std::vector<float>& x) {
    std::unique_ptr<faiss::Index> copy(faiss_ext::clone_index(&of));
    std::unique_ptr<IndexIVFScaNN> scann(faiss_ext::find_scann(copy.release()));
    faiss_ext::VersionedScaNN index(std::move(scann));
    const auto before = index.version();
    index.change([&](IndexIVFScaNN& writer) { writer.add(1, x.data()); });
    int64_t rows = 0;
    index.read([&](const IndexIVFScaNN& writer) { rows = writer.ntotal; });
    try {
        index.maintain(); // of rows kept as codes alone
        return false;
    } catch (const faiss::FaissException&) {
    }
    return rows == before->ntotal + 1 && index.version()->ntotal == rows;
}

bool files(const faiss::Index& index) {
    const std::string path = "links.scann";
    faiss_ext::write_index(&index, path);
    std::unique_ptr<faiss::Index> a(faiss_ext::read_index(path));
    const faiss_ext::ReadBounds bounds{uint64_t(1) << 30};
    std::unique_ptr<faiss::Index> within(faiss_ext::read_index(path, bounds));
    const bool same_columns = faiss_ext::column_bytes(path, bounds).size() ==
                              faiss_ext::column_bytes(within.get()).size();
    std::remove(path.c_str());
    if (!same_columns) {
        return false;
    }
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(&index, &writer);
    faiss::VectorIOReader reader;
    reader.data = writer.data;
    std::unique_ptr<faiss::Index> b(faiss_ext::read_index(&reader));
    std::unique_ptr<faiss::Index> plain(faiss_ext::export_to_faiss(&index));
    faiss::VectorIOWriter plain_writer;
    faiss::write_index(plain.get(), &plain_writer);
    const std::vector<uint8_t>& bytes = plain_writer.data;
    faiss::write_index(plain.get(), path.c_str());
    std::unique_ptr<faiss::Index> c(faiss_ext::import_from_faiss(path));
    std::remove(path.c_str());
    std::unique_ptr<faiss::Index> d(faiss_ext::import_from_faiss(plain.get()));
    std::unique_ptr<faiss::Index> e(
            faiss_ext::import_from_faiss(bytes.data(), bytes.size()));
    if (c->ntotal != a->ntotal || d->ntotal != a->ntotal ||
        e->ntotal != a->ntotal) {
        return false;
    }
    const auto held = std::make_shared<std::vector<uint8_t>>(writer.data);
    std::unique_ptr<faiss::Index> f(faiss_ext::read_index(
            std::shared_ptr<const uint8_t>(held, held->data()),
            held->size(),
            faiss_ext::ReadMode::Copy));
    if (f->ntotal != a->ntotal) {
        return false;
    }
    const faiss::Index& read = *a;
    return a->ntotal == b->ntotal && plain->d == kD &&
           faiss_ext::find_scann(&read) != nullptr;
}

/// Rows of a class of the user's, of a file, of memory, of a stream.
struct OwnRows : faiss_ext::RowSource {
    explicit OwnRows(const float* x)
            : RowSource(kN, kD, faiss_ext::RowType::Float32), x(x) {}
    void read(size_t begin, size_t count, void* rows) override {
        std::memcpy(rows, x + begin * kD, count * kD * sizeof(float));
    }
    const float* x;
};

bool beyond_memory(const std::vector<float>& x) {
    const std::string path = "links.scann", file = "links.rows";
    constexpr auto kFloat = faiss_ext::RowType::Float32;
    FILE* out = std::fopen(file.c_str(), "wb");
    std::fwrite(x.data(), sizeof(float), x.size(), out);
    std::fclose(out);
    faiss_ext::BuildOptions options;
    options.memory = 200 << 20;
    OwnRows own(x.data());
    faiss_ext::build_index("IVF16,ScaNN", own, path, options);
    auto held = faiss_ext::rows_in_memory(x.data(), kN, kD, kFloat);
    auto read = faiss_ext::rows_in_file(file, kN, kD, kFloat);
    bool fine = own.in_memory() == nullptr && held->in_memory() == x.data();
    faiss_ext::build_index("IVF16,ScaNN", *read, path, options);
    faiss_ext::RowStream stream;
    stream.d = kD;
    stream.next = [&, given = false]() mutable {
        faiss_ext::RowStream::Piece piece{x.data(), given ? 0 : size_t(kN)};
        given = true;
        return piece;
    };
    faiss_ext::build_index("IVF16,ScaNN", stream, path, options);
    std::unique_ptr<faiss::Index> index(faiss_ext::read_index(path));
    std::remove(path.c_str());
    std::remove(file.c_str());
    return fine && index->ntotal == kN;
}

} // namespace

int main() {
    const std::vector<float> x = random_rows();
    faiss_ext::set_simd_level(faiss_ext::simd_levels().back());
    faiss::IndexFlatL2 quantizer(kD);
    IndexIVFScaNN borrowing(&quantizer, kD, kLists);
    IndexIVFScaNN index(kD, kLists);
    const size_t estimate = index.IndexIVFScaNN::estimate_memory(kN);
    build(index, x);
    std::unique_ptr<faiss::Index> made(faiss_ext::index_factory(kD, "ScaNN"));
    const IndexIVFScaNN& constant = index;
    bool fine = &index.state() == &constant.state() && estimate > 0 &&
                index.IndexIVFScaNN::memory_usage() > 0 &&
                index.IndexIVFScaNN::notes().size() < 10 &&
                faiss_ext::simd_level() == "NONE" && search(index, x) &&
                change(index, x) && versions(index, x) && files(index) &&
                beyond_memory(x);
    std::puts(fine ? "linked" : "wrong values");
    return !fine;
}
