#include <faiss_ext/wrappers/faiss_parts.h>

#include <algorithm>

#include <faiss_ext/wrappers/part_reader.h>

namespace faiss_ext {

namespace {

constexpr size_t kMaxMaps = 2;

constexpr size_t kMaxDimensions = 65536;
/// dimensions of a rotation, whose matrix takes 1 GB then
constexpr size_t kMaxRotated = 16384;
constexpr size_t kMaxLists = size_t(1) << 22;
constexpr size_t kMaxNeighbours = 512;
constexpr size_t kMaxBits = 12;
constexpr size_t kMaxBlock = 128;

constexpr char kTransforms[] =
        "PCA<n>, PCAR<n>, PCAW<n>, PCAWR<n>, L2norm, RR<n>, ITQ<n>, OPQ<M>, "
        "OPQ<M>_<n>, Pad<n>";
constexpr char kLists[] =
        "IVF<n>, IVF<n>_HNSW<M>, IVF<n>(<quantizer>), IMI2x<bits>";
constexpr char kCodes[] =
        "Flat, FlatDedup, SQ4, SQ6, SQ8, SQfp16, PQ<M>, PQ<M>x<bits>, "
        "PQ<M>+<M>, PQ<M>x4fs";
constexpr char kBodies[] =
        "Flat, SQ4, SQ6, SQ8, SQfp16, PQ<M>, PQ<M>x<bits>, PQ<M>x4fs, LSH, "
        "HNSW<M>";

bool is_scalar_code(const std::string& text) {
    return text == "SQ4" || text == "SQ6" || text == "SQ8" || text == "SQfp16";
}

class Checker {
 public:
    Checker(const std::string& description, faiss::MetricType metric)
            : description_(description), metric_(metric) {}

    void check_index(
            std::span<const FactoryPart> parts,
            size_t d,
            size_t position,
            bool may_map);
    FactoryLists check_before(std::span<const FactoryPart> parts, size_t d);

 private:
    [[noreturn]] void fail(size_t position, const std::string& message) const {
        fail_factory(description_, position, message);
    }
    [[noreturn]] void unknown(const FactoryPart& part, const std::string& list)
            const {
        fail(part.position,
             "unknown " + quoted(part.text) + " (known: " + list + ")");
    }
    void check_range(
            const PartReader& reader,
            const char* what,
            size_t value,
            size_t least,
            size_t most) const {
        if (value < least || value > most) {
            fail(reader.number_position(),
                 printable(reader.last_number()) + " " + what +
                         " (allowed: " + std::to_string(least) + ".." +
                         std::to_string(most) + ")");
        }
    }
    void check_divides(const PartReader& reader, size_t M, size_t d) const {
        check_range(reader, "codes", M, 1, d);
        if (d % M != 0) {
            fail(reader.number_position(),
                 std::to_string(M) + " codes for " + std::to_string(d) +
                         " dimensions (allowed: divisors of " +
                         std::to_string(d) + ")");
        }
    }
    void need_l2(const FactoryPart& part) const {
        if (metric_ != faiss::METRIC_L2) {
            fail(part.position, quoted(part.text) + " needs METRIC_L2");
        }
    }

    bool is_map(const FactoryPart& part) const {
        return part.text == "IDMap" || part.text == "IDMap2";
    }
    void count_map(const FactoryPart& part);
    void check_matrix(const FactoryPart& part, size_t d, size_t n) const;
    bool matrix_transform(const FactoryPart& part, size_t d, size_t& n) const;
    bool transform(const FactoryPart& part, size_t& d) const;
    bool lists(const FactoryPart& part, size_t d, FactoryLists& found) const;
    void check_quantizer(const FactoryPart& whole, size_t d) const;
    bool graph(std::span<const FactoryPart>& parts, size_t d) const;
    bool product_codes(PartReader reader, size_t d, bool in_lists) const;
    bool code(const FactoryPart& part, size_t d) const;
    bool graph_code(const FactoryPart& part, size_t d) const;
    void check_body(std::span<const FactoryPart>& parts, size_t d) const;
    void check_refinement(std::span<const FactoryPart>& parts, size_t d);

    const std::string& description_;
    faiss::MetricType metric_;
    size_t maps_ = 0;
};

void Checker::count_map(const FactoryPart& part) {
    if (++maps_ > kMaxMaps) {
        fail(part.position,
             "one more " + quoted(part.text) + " (allowed: at most " +
                     std::to_string(kMaxMaps) + " id maps)");
    }
}

/// The matrix of a transform from d to n dimensions.
void Checker::check_matrix(const FactoryPart& part, size_t d, size_t n) const {
    if (std::max(d, n) > kMaxRotated) {
        fail(part.position,
             quoted(part.text) + " of " + std::to_string(d) +
                     " dimensions (allowed: at most " +
                     std::to_string(kMaxRotated) + ")");
    }
}

/// PCA[W][R]<n>, RR[<n>], ITQ[<n>], OPQ<M>[_<n>]: transforms with a matrix.
/// @param n  out: dimensions of the result
bool Checker::matrix_transform(const FactoryPart& part, size_t d, size_t& n)
        const {
    PartReader reader(part);
    n = d;
    if (reader.word("PCA")) {
        (void)reader.word("W");
        (void)reader.word("R");
        if (!reader.number(n) || !reader.end()) {
            return false;
        }
        check_range(reader, "dimensions", n, 1, d);
    } else if (reader.word("RR") || reader.word("ITQ")) {
        bool narrows = part.text[0] == 'I';
        if (!reader.end()) {
            if (!reader.number(n) || !reader.end()) {
                return false;
            }
            size_t most = narrows ? d : kMaxRotated;
            check_range(reader, "dimensions", n, 1, most);
        }
    } else if (reader.word("OPQ")) {
        size_t M = 0;
        if (!reader.number(M)) {
            return false;
        }
        PartReader codes = reader;
        if (reader.word("_")) {
            if (!reader.number(n)) {
                return false;
            }
            check_range(reader, "dimensions", n, 1, kMaxRotated);
        }
        if (!reader.end()) {
            return false;
        }
        check_divides(codes, M, n);
    } else {
        return false;
    }
    check_matrix(part, d, n);
    return true;
}

/// @param d  in/out: dimensions before and after it
bool Checker::transform(const FactoryPart& part, size_t& d) const {
    if (part.text == "L2norm" || part.text == "L2Norm") {
        return true;
    }
    PartReader reader(part);
    size_t n = 0;
    if (reader.word("Pad")) {
        if (!reader.number(n) || !reader.end()) {
            return false;
        }
        check_range(reader, "dimensions", n, 1, kMaxDimensions);
        d = std::max(d, n);
        return true;
    }
    if (!matrix_transform(part, d, n)) {
        return false;
    }
    d = n;
    return true;
}

bool Checker::lists(const FactoryPart& part, size_t d, FactoryLists& found)
        const {
    PartReader reader(part);
    size_t n = 0;
    if (reader.word("IMI2x")) {
        if (!reader.number(n) || !reader.end()) {
            return false;
        }
        need_l2(part);
        check_range(reader, "bits", n, 1, 11);
        if (d % 2 != 0) {
            fail(part.position,
                 quoted(part.text) + " for " + std::to_string(d) +
                         " dimensions (allowed: an even number)");
        }
        found = {size_t(1) << (2 * n), part.text};
        return true;
    }
    if (!reader.word("IVF") || !reader.number(n)) {
        return false;
    }
    check_range(reader, "lists", n, 1, kMaxLists);
    std::string rest = part.text.substr(reader.at());
    found = {n, std::string("IVF1").append(rest)};
    if (reader.end()) {
        return true;
    }
    if (reader.word("_HNSW")) {
        size_t M = 0;
        if (reader.number(M)) {
            check_range(reader, "neighbours", M, 2, kMaxNeighbours);
        }
        return reader.end();
    }
    if (rest.front() == '(' && rest.back() == ')') {
        check_quantizer(part.part(reader.at() + 1, rest.size() - 2), d);
        return true;
    }
    return false;
}

/// PQ<M>..; what may follow depends on whether it is the code of lists.
bool Checker::product_codes(PartReader reader, size_t d, bool in_lists) const {
    size_t M = 0, bits = 0;
    if (!reader.word("PQ") || !reader.number(M)) {
        return false;
    }
    const PartReader codes = reader;
    if (reader.word("x4fs")) {
        if (in_lists) {
            (void)reader.word("r");
        }
        if (reader.word("_")) {
            size_t block = 0;
            if (!reader.number(block)) {
                return false;
            }
            check_range(reader, "codes in a block", block, 32, kMaxBlock);
            if (block % 32 != 0) {
                fail(reader.number_position(),
                     std::to_string(block) +
                             " codes in a block (allowed: multiples of 32)");
            }
        }
    } else if (in_lists && reader.word("+")) {
        size_t finer = 0;
        if (!reader.number(finer)) {
            return false;
        }
        check_divides(reader, finer, d);
    } else {
        if (reader.word("x")) {
            if (!reader.number(bits)) {
                return false;
            }
            check_range(reader, "bits", bits, 1, in_lists ? 8 : kMaxBits);
        }
        (void)reader.word("np");
    }
    if (!reader.end()) {
        return false;
    }
    check_divides(codes, M, d);
    return true;
}

bool Checker::code(const FactoryPart& part, size_t d) const {
    if (part.text == "Flat" || part.text == "FlatDedup" ||
        is_scalar_code(part.text)) {
        return true;
    }
    if (part.text.find('+') != std::string::npos) {
        need_l2(part);
    }
    return product_codes(PartReader(part), d, true);
}

bool Checker::graph_code(const FactoryPart& part, size_t d) const {
    if (part.text == "Flat" || is_scalar_code(part.text)) {
        return true;
    }
    PartReader reader(part);
    size_t M = 0;
    if (!reader.word("PQ") || !reader.number(M)) {
        return false;
    }
    const PartReader codes = reader;
    (void)reader.word("np");
    if (!reader.end()) {
        return false;
    }
    need_l2(part); // Faiss does not pass the metric on
    check_divides(codes, M, d);
    return true;
}

/// HNSW<M>, HNSW<M>_code or HNSW<M>,code. Removes its parts from `parts`.
bool Checker::graph(std::span<const FactoryPart>& parts, size_t d) const {
    const FactoryPart body = parts.front();
    PartReader reader(body);
    size_t M = 0;
    if (!reader.word("HNSW")) {
        return false;
    }
    if (reader.number(M)) {
        check_range(reader, "neighbours", M, 2, kMaxNeighbours);
    }
    if (reader.word("_")) {
        const FactoryPart codes = body.part(reader.at());
        if (!graph_code(codes, d)) {
            unknown(codes, "Flat, SQ4, SQ6, SQ8, SQfp16, PQ<M>");
        }
    } else if (!reader.end()) {
        return false;
    } else if (parts.size() > 1 && graph_code(parts[1], d)) {
        parts = parts.subspan(1);
    }
    parts = parts.subspan(1);
    return true;
}

/// Indexes that can hold centroids: others lack reconstruct() or exact ids.
void Checker::check_quantizer(const FactoryPart& whole, size_t d) const {
    constexpr char kQuantizers[] =
            "Flat, SQ4, SQ6, SQ8, SQfp16, PQ<M>, PQ<M>x<bits>, HNSW<M>";
    const std::vector<FactoryPart> split = split_factory(description_, whole);
    std::span<const FactoryPart> parts(split);
    const std::string& text = parts.front().text;
    if (text == "Flat" || is_scalar_code(text) ||
        (text.find("fs") == std::string::npos &&
         product_codes(PartReader(parts.front()), d, false))) {
        parts = parts.subspan(1);
    } else if (!graph(parts, d)) {
        unknown(parts.front(), kQuantizers);
    }
    if (!parts.empty()) {
        unknown(parts.front(), kQuantizers);
    }
}

/// Lists and their codes, a graph, or codes alone. Removes its parts from
/// `parts`.
void Checker::check_body(std::span<const FactoryPart>& parts, size_t d) const {
    const FactoryPart body = parts.front();
    FactoryLists found;
    if (body.text.compare(0, 4, "HNSW") == 0) {
        if (!graph(parts, d)) {
            unknown(body, kBodies);
        }
        return;
    }
    parts = parts.subspan(1);
    PartReader reader(body);
    if (lists(body, d, found)) {
        if (parts.empty()) {
            fail(body.position + body.text.size(),
                 std::string("no codes behind lists (known: ") + kCodes + ")");
        }
        if (!code(parts.front(), d)) {
            unknown(parts.front(), kCodes);
        }
        parts = parts.subspan(1);
    } else if (reader.word("LSH")) {
        (void)reader.word("r");
        (void)reader.word("t");
        if (!reader.end()) {
            unknown(body, kBodies);
        }
        need_l2(body);
    } else if (
            body.text != "Flat" && !is_scalar_code(body.text) &&
            !product_codes(PartReader(body), d, false)) {
        unknown(body,
                std::string(kBodies) + "; " + kLists + "; " + kTransforms +
                        "; ScaNN");
    }
}

/// RFlat, Refine(index), or nothing. Removes its part from `parts`.
void Checker::check_refinement(std::span<const FactoryPart>& parts, size_t d) {
    if (parts.empty()) {
        return;
    }
    constexpr char kOpening[] = "Refine(";
    constexpr size_t kLength = sizeof(kOpening) - 1;
    const FactoryPart& part = parts.front();
    const std::string& text = part.text;
    if (text.compare(0, kLength, kOpening) == 0 && text.back() == ')') {
        const FactoryPart inside =
                part.part(kLength, text.size() - kLength - 1);
        check_index(
                split_factory(description_, inside), d, inside.position, false);
    } else if (text != "RFlat") {
        return;
    }
    parts = parts.subspan(1);
}

void Checker::check_index(
        std::span<const FactoryPart> parts,
        size_t d,
        size_t position,
        bool may_map) {
    auto take_maps = [&] {
        while (may_map && !parts.empty() && is_map(parts.front())) {
            count_map(parts.front());
            parts = parts.subspan(1);
        }
    };
    take_maps();
    while (!parts.empty() && transform(parts.front(), d)) {
        parts = parts.subspan(1);
    }
    if (parts.empty()) {
        fail(position,
             std::string("nothing to keep vectors in (known: ") + kBodies +
                     ", or lists and codes: " + kLists + ")");
    }
    check_body(parts, d);
    check_refinement(parts, d);
    take_maps();
    if (!parts.empty()) {
        unknown(parts.front(), "RFlat, Refine(<index>), IDMap, IDMap2");
    }
}

FactoryLists Checker::check_before(
        std::span<const FactoryPart> parts,
        size_t d) {
    FactoryLists found;
    for (size_t i = 0; i + 1 < parts.size(); i++) {
        if (is_map(parts[i])) {
            count_map(parts[i]);
        } else if (parts[i].text.compare(0, 3, "IVF") == 0) {
            fail(parts[i + 1].position,
                 quoted(parts[i + 1].text) +
                         " between lists and ScaNN (allowed: nothing)");
        } else if (!transform(parts[i], d)) {
            unknown(parts[i], std::string("IDMap, IDMap2, ") + kTransforms);
        }
    }
    if (!lists(parts.back(), d, found)) {
        unknown(parts.back(),
                "IVF, IVF<n>, IVF<n>_HNSW<M>, IVF<n>(<quantizer>)");
    }
    return found;
}

} // namespace

FactoryLists check_parts_before(
        const std::string& description,
        std::span<const FactoryPart> parts,
        int d,
        faiss::MetricType metric) {
    return Checker(description, metric).check_before(parts, size_t(d));
}

void check_faiss_description(
        const std::string& description,
        int d,
        faiss::MetricType metric) {
    Checker(description, metric)
            .check_index(
                    split_factory(description, {description, 0}),
                    size_t(d),
                    0,
                    true);
}

} // namespace faiss_ext
