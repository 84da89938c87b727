#include <faiss_ext/io/faiss_bytes_parts.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include <faiss/impl/ScalarQuantizer.h>

#include <faiss_ext/faiss_compat.h>

namespace faiss_ext {

namespace {

constexpr int kMaxInt = std::numeric_limits<int>::max();

// ---- transforms ----

struct MatrixShape {
    bool has_bias = false;
    uint64_t values = 0;
    uint64_t biases = 0;
};

MatrixShape check_matrix(FaissByteCursor& cursor) {
    constexpr uint64_t kMax = kMaxDimensions * kMaxDimensions;
    MatrixShape shape;
    shape.has_bias = cursor.get_flag("have_bias");
    shape.values = cursor.float_vector("A", 0, kMax).size();
    shape.biases = cursor.float_vector("b", 0, kMaxDimensions).size();
    return shape;
}

/// The dimensions come last in a transform, after the fields that depend on
/// them.
TransformShape check_dimensions(FaissByteCursor& cursor) {
    TransformShape shape;
    shape.d_in = cursor.get_in<int32_t>("d_in", 1, kMaxDimensions);
    shape.d_out = cursor.get_in<int32_t>("d_out", 1, kMaxDimensions);
    shape.is_trained = cursor.get_flag("is_trained");
    return shape;
}

/// Before training, n or none.
void check_trained_size(
        const FaissByteCursor& cursor,
        const char* field,
        uint64_t size,
        int64_t n,
        bool is_trained) {
    if (is_trained || size != 0) {
        cursor.check_is(field, size, uint64_t(n));
    }
}

TransformShape finish_matrix(
        FaissByteCursor& cursor,
        const MatrixShape& matrix) {
    TransformShape shape = check_dimensions(cursor);
    check_trained_size(
            cursor,
            "size of A",
            matrix.values,
            shape.d_in * shape.d_out,
            shape.is_trained);
    check_trained_size(
            cursor,
            "size of b",
            matrix.biases,
            shape.d_out,
            shape.is_trained && matrix.has_bias);
    return shape;
}

TransformShape check_pca(FaissByteCursor& cursor) {
    constexpr uint64_t kMax = kMaxDimensions * kMaxDimensions;
    cursor.get_finite("eigen_power");
    cursor.get_finite("epsilon");
    cursor.get_flag("random_rotation");
    cursor.get_in<int32_t>("balanced_bins", 0, kMaxDimensions);
    uint64_t mean = cursor.float_vector("mean", 0, kMaxDimensions).size();
    // A and b were made from these, which are not read again; from few training
    // rows there are fewer than dimensions
    cursor.float_vector("eigenvalues", 0, kMaxDimensions);
    cursor.float_vector("PCAMat", 0, kMax);
    TransformShape shape = finish_matrix(cursor, check_matrix(cursor));
    check_trained_size(
            cursor, "size of mean", mean, shape.d_in, shape.is_trained);
    return shape;
}

TransformShape check_linear(FaissByteCursor& cursor, const char* code) {
    std::string found = cursor.get_code();
    if (found != code) {
        cursor.fail("\"" + found + "\" (allowed: " + code + ")");
    }
    if (found == "Viqm") {
        cursor.get<int32_t>("max_iter");
        cursor.get<int32_t>("seed");
    }
    return finish_matrix(cursor, check_matrix(cursor));
}

TransformShape check_itq(FaissByteCursor& cursor) {
    uint64_t mean = cursor.float_vector("mean", 0, kMaxDimensions).size();
    cursor.get_flag("do_pca");
    TransformShape rotation, all;
    {
        FaissByteCursor::Part part(cursor, "itq");
        rotation = check_linear(cursor, "Viqm");
    }
    {
        FaissByteCursor::Part part(cursor, "pca_then_itq");
        all = check_linear(cursor, "LTra");
    }
    TransformShape shape = check_dimensions(cursor);
    check_trained_size(
            cursor, "size of mean", mean, shape.d_in, shape.is_trained);
    cursor.check_is("d_in of itq", rotation.d_in, shape.d_out);
    cursor.check_is("d_out of itq", rotation.d_out, shape.d_out);
    cursor.check_is("d_in of pca_then_itq", all.d_in, shape.d_in);
    cursor.check_is("d_out of pca_then_itq", all.d_out, shape.d_out);
    if (shape.is_trained && !all.is_trained) {
        cursor.fail("pca_then_itq is not trained, but the transform is");
    }
    return shape;
}

TransformShape check_remap(FaissByteCursor& cursor) {
    auto map = cursor.vector<int32_t>("map", 0, kMaxDimensions);
    TransformShape shape = check_dimensions(cursor);
    cursor.check_is("size of map", map.size(), uint64_t(shape.d_out));
    for (uint64_t i = 0; i < map.size(); i++) {
        // -1: a zero
        cursor.check_in<int64_t>("map", map[i], -1, shape.d_in - 1);
    }
    return shape;
}

TransformShape check_normalization(FaissByteCursor& cursor) {
    cursor.check_in("norm", cursor.get<float>("norm"), 2.f, 2.f);
    TransformShape shape = check_dimensions(cursor);
    cursor.check_is("d_out", shape.d_out, shape.d_in);
    return shape;
}

TransformShape check_centering(FaissByteCursor& cursor) {
    uint64_t mean = cursor.float_vector("mean", 0, kMaxDimensions).size();
    TransformShape shape = check_dimensions(cursor);
    cursor.check_is("d_out", shape.d_out, shape.d_in);
    check_trained_size(
            cursor, "size of mean", mean, shape.d_in, shape.is_trained);
    return shape;
}

TransformShape check_hadamard(FaissByteCursor& cursor) {
    cursor.get<uint32_t>("seed");
    TransformShape shape = check_dimensions(cursor);
    int64_t least = 1;
    while (least < shape.d_in) {
        least *= 2;
    }
    cursor.check_is("d_out", shape.d_out, least);
    return shape;
}

} // namespace

TransformShape check_transform(FaissByteCursor& cursor) {
    std::string code = cursor.get_code();
    auto in = [&](const char* name, auto&& check) {
        FaissByteCursor::Part part(cursor, name);
        return check(cursor);
    };
    auto check_plain = [](FaissByteCursor& at) {
        return finish_matrix(at, check_matrix(at));
    };
    if (code == "LTra") {
        return in("LinearTransform", check_plain);
    }
    if (code == "rrot") {
        return in("RandomRotationMatrix", check_plain);
    }
    if (code == "Pcam") {
        return in("PCAMatrix", check_pca);
    }
    if (code == "Viqt") {
        return in("ITQTransform", check_itq);
    }
    if (code == "RmDT") {
        return in("RemapDimensionsTransform", check_remap);
    }
    if (code == "VNrm") {
        return in("NormalizationTransform", check_normalization);
    }
    if (code == "VCnt") {
        return in("CenteringTransform", check_centering);
    }
    // Faiss' reader would throw on others, and leak what it has read
    if (code == "HRot" && FAISS_EXT_FAISS_VERSION >= 11401) {
        return in("HadamardRotation", check_hadamard);
    }
    cursor.fail(
            "\"" + code +
            "\" is no transform that is read here (known: LTra, rrot, Pcam, "
            "Viqt, RmDT, VNrm, VCnt, HRot)");
}

// ---- quantizers ----

SQShape
check_scalar_quantizer(FaissByteCursor& cursor, int64_t d, bool is_trained) {
    using SQ = faiss::ScalarQuantizer;
#if FAISS_EXT_FAISS_VERSION >= 11000
    constexpr int kMaxType = SQ::QT_8bit_direct_signed;
#else
    constexpr int kMaxType = SQ::QT_6bit;
#endif
    FaissByteCursor::Part part(cursor, "ScalarQuantizer");
    int type = cursor.get_in<int32_t>("qtype", 0, kMaxType);
    cursor.get_in<int32_t>("rangestat", 0, SQ::RS_optim);
    cursor.get_finite("rangestat_arg");
    cursor.check_is("d", cursor.get<uint64_t>("d"), uint64_t(d));
    uint64_t bits = 0, trained = 0;
    switch (type) {
        case SQ::QT_8bit:
            bits = 8, trained = 2 * d;
            break;
        case SQ::QT_6bit:
            bits = 6, trained = 2 * d;
            break;
        case SQ::QT_4bit:
            bits = 4, trained = 2 * d;
            break;
        case SQ::QT_8bit_uniform:
            bits = 8, trained = 2;
            break;
        case SQ::QT_4bit_uniform:
            bits = 4, trained = 2;
            break;
        case SQ::QT_fp16:
            bits = 16;
            break;
        case SQ::QT_8bit_direct:
            bits = 8;
            break;
#if FAISS_EXT_FAISS_VERSION >= 11000
        case SQ::QT_bf16:
            bits = 16;
            break;
        case SQ::QT_8bit_direct_signed:
            bits = 8;
            break;
#endif
    }
    SQShape shape;
    shape.type = type;
    shape.code_size = (d * bits + 7) / 8;
    cursor.check_is(
            "code_size", cursor.get<uint64_t>("code_size"), shape.code_size);
    shape.trained = cursor.float_vector("trained", 0, trained);
    check_trained_size(
            cursor,
            "size of trained",
            shape.trained.size(),
            int64_t(trained),
            is_trained);
    return shape;
}

PQShape check_product_quantizer(FaissByteCursor& cursor, int64_t d) {
    constexpr uint64_t kMaxBits = 16;
    FaissByteCursor::Part part(cursor, "ProductQuantizer");
    PQShape shape;
    cursor.check_is("d", cursor.get<uint64_t>("d"), uint64_t(d));
    shape.M = cursor.get_in<uint64_t>("M", 1, d);
    cursor.check_is("d modulo M", uint64_t(d) % shape.M, uint64_t(0));
    shape.nbits = cursor.get_in<uint64_t>("nbits", 1, kMaxBits);
    uint64_t values = uint64_t(d) << shape.nbits;
    shape.centroids = cursor.float_vector("centroids", values, values);
    return shape;
}

// ---- graph ----

namespace {

/// Links must end at the first -1: Faiss adds links behind the last one. With
/// 32-bit numbers and without branches, so that compilers vectorise it.
bool are_links(
        const Column<int32_t>& links,
        uint64_t begin,
        uint64_t end,
        int32_t rows) {
    int32_t bad = links[begin] < -1 || links[begin] >= rows;
    for (uint64_t i = begin + 1; i < end; i++) {
        const int32_t before = links[i - 1], link = links[i];
        bad |= (link < -1) | (link >= rows) | ((link >= 0) & (before < 0));
    }
    return bad == 0;
}

/// Reads the fields that hold for all rows of a graph. @return where the links
/// of each level end, counted from the first link of a row
Column<int32_t> check_levels(FaissByteCursor& cursor) {
    // Faiss makes 30 levels of 2 links a row; a node has at most 2 * 2048
    constexpr uint64_t kMaxLevels = 64;
    constexpr int kMaxLinks = 1 << 17;
    auto chances = cursor.vector<double>("assign_probas", 1, kMaxLevels);
    for (uint64_t i = 0; i < chances.size(); i++) {
        cursor.check_in("assign_probas", chances[i], 0., 1.);
    }
    constexpr char kEnds[] = "cum_nneighbor_per_level";
    auto ends = cursor.vector<int32_t>(kEnds, chances.size() + 1);
    cursor.check_is(kEnds, ends[0], 0);
    for (uint64_t i = 0; i < chances.size(); i++) {
        cursor.check_in(kEnds, ends[i + 1], ends[i] + 1, ends[i] + kMaxLinks);
    }
    return ends;
}

/// The links of one row on one level.
/// @param levels  of all rows @param begin, end  of the links
void check_links(
        FaissByteCursor& cursor,
        const Column<int32_t>& links,
        const Column<int32_t>& levels,
        int64_t row,
        int level,
        uint64_t begin,
        uint64_t end) {
    const size_t rows = levels.size();
    if (!are_links(links, begin, end, int32_t(rows))) {
        cursor.fail(
                "neighbors: row " + std::to_string(row) +
                " has a link that is none of " + std::to_string(rows) +
                " rows, or one behind the end of its links");
    }
    for (uint64_t i = begin; level > 0 && i < end && links[i] >= 0; i++) {
        if (levels[links[i]] <= level) {
            cursor.fail(
                    "neighbors: on level " + std::to_string(level) + ", row " +
                    std::to_string(row) + " has a link to row " +
                    std::to_string(links[i]) + ", which is not there");
        }
    }
}

} // namespace

void check_graph(FaissByteCursor& cursor, int64_t rows) {
    // a search allocates an array of this size
    constexpr int kMaxEf = 1 << 22;
    FaissByteCursor::Part part(cursor, "HNSW");
    auto ends = check_levels(cursor);
    auto levels = cursor.vector<int32_t>("levels", rows);
    auto offsets = cursor.vector<uint64_t>("offsets", rows + 1);
    cursor.check_is("offsets", offsets[0], uint64_t(0));
    int highest = 0;
    for (int64_t row = 0; row < rows; row++) {
        int level = levels[row];
        cursor.check_in("levels", level, 1, int(ends.size()) - 1);
        highest = std::max(highest, level);
        // each is checked against the one before, so that none can overflow
        cursor.check_is(
                "offsets", offsets[row + 1], offsets[row] + ends[level]);
    }
    auto links = cursor.vector<int32_t>("neighbors", offsets[rows]);
    for (int64_t row = 0; row < rows; row++) {
        for (int l = 0; l < levels[row]; l++) {
            check_links(
                    cursor,
                    links,
                    levels,
                    row,
                    l,
                    offsets[row] + ends[l],
                    offsets[row] + ends[l + 1]);
        }
    }
    int entry = cursor.get_in<int32_t>(
            "entry_point", rows > 0 ? 0 : -1, int(rows) - 1);
    cursor.check_is("max_level", cursor.get<int32_t>("max_level"), highest - 1);
    if (rows > 0) {
        cursor.check_is("levels of entry_point", levels[entry], highest);
    }
    cursor.get_in<int32_t>("efConstruction", 1, kMaxInt);
    cursor.get_in<int32_t>("efSearch", 1, kMaxEf);
    // others are experimental; newer releases always write 1
    cursor.check_is("upper_beam", cursor.get<int32_t>("upper_beam"), 1);
}

} // namespace faiss_ext
