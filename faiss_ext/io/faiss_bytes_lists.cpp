#include <faiss_ext/io/faiss_bytes_parts.h>

#include <string>
#include <vector>

namespace faiss_ext {

namespace {

/// Ids of one list after the other.
class IdChecker {
 public:
    IdChecker(FaissByteCursor& cursor, const ListRules& rules)
            : cursor_(cursor),
              rules_(rules),
              left_(rules.rows),
              seen_(rules.ids_are_rows ? rules.rows : 0) {}

    void check_size(uint64_t size) {
        cursor_.check_in("size of a list", size, uint64_t(0), uint64_t(left_));
        left_ -= int64_t(size);
    }
    void check(const Column<int64_t>& ids) {
        for (uint64_t i = 0; rules_.ids_are_rows && i < ids.size(); i++) {
            const int64_t id = ids[i];
            cursor_.check_in<int64_t>("id", id, 0, rules_.rows - 1);
            if (seen_[id]) {
                cursor_.fail("id " + std::to_string(id) + " is in lists twice");
            }
            seen_[id] = true;
        }
    }
    void finish() {
        if (rules_.ids_are_rows) {
            cursor_.check_is("rows that are in no list", left_, int64_t(0));
        }
    }

 private:
    FaissByteCursor& cursor_;
    const ListRules& rules_;
    int64_t left_; ///< rows that may be in lists to come
    std::vector<bool> seen_;
};

} // namespace

void check_inverted_lists(
        FaissByteCursor& cursor,
        const ListRules& rules,
        std::vector<FaissList>* lists) {
    const uint64_t nlist = rules.nlist;
    const uint64_t code_size = rules.code_size;
    FaissByteCursor::Part part(cursor, "inverted lists");
    std::string code = cursor.get_code();
    if (code != "ilar") {
        cursor.fail("\"" + code + "\" (allowed: ilar, lists in memory)");
    }
    cursor.check_is("nlist", cursor.get<uint64_t>("nlist"), nlist);
    cursor.check_is("code_size", cursor.get<uint64_t>("code_size"), code_size);
    std::string form = cursor.get_code();
    Column<uint64_t> sizes;
    if (form == "full") {
        sizes = cursor.vector<uint64_t>("sizes", nlist);
    } else if (form == "sprs") { // pairs of list and size
        sizes = cursor.vector<uint64_t>("sizes", 0, 2 * nlist);
        cursor.check_is(
                "size of sizes modulo 2", sizes.size() % 2, uint64_t(0));
        for (uint64_t i = 0; i < sizes.size(); i += 2) {
            cursor.check_in(
                    "list number",
                    sizes[i],
                    i == 0 ? 0 : sizes[i - 2] + 1,
                    nlist - 1);
        }
    } else {
        cursor.fail("\"" + form + "\" (allowed: full or sprs)");
    }
    const uint64_t step = form == "full" ? 1 : 2;
    if (rules.ids_are_rows) {
        cursor.check_left(
                "codes and ids", rules.rows, code_size + sizeof(int64_t));
    }
    if (lists != nullptr) {
        lists->assign(nlist, {});
    }
    IdChecker checker(cursor, rules);
    for (uint64_t i = step - 1; i < sizes.size(); i += step) {
        const uint64_t size = sizes[i];
        checker.check_size(size);
        cursor.check_left("codes and ids", size, code_size + sizeof(int64_t));
        FaissList list;
        std::span<const uint8_t> rest = cursor.rest();
        if (rules.floats) {
            cursor.floats("vectors", size * code_size / sizeof(float));
        } else {
            cursor.bytes("codes", size * code_size);
        }
        list.codes = cursor.read_since(rest);
        list.ids = cursor.column<int64_t>("ids", size);
        checker.check(list.ids);
        if (lists != nullptr) {
            (*lists)[step == 1 ? i : sizes[i - 1]] = list;
        }
    }
    checker.finish();
}

void check_block_lists(
        FaissByteCursor& cursor,
        const ListRules& rules,
        uint64_t block_rows,
        std::vector<FaissList>* lists) {
    FaissByteCursor::Part part(cursor, "inverted lists");
    std::string code = cursor.get_code();
    if (code != "ilbl") {
        cursor.fail("\"" + code + "\" (allowed: ilbl, lists of blocks)");
    }
    cursor.check_is("nlist", cursor.get<uint64_t>("nlist"), rules.nlist);
    cursor.get<uint64_t>("code_size"); // of no use, and not always set
    cursor.check_is(
            "n_per_block", cursor.get<uint64_t>("n_per_block"), block_rows);
    const uint64_t block_size = rules.code_size * block_rows;
    cursor.check_is(
            "block_size", cursor.get<uint64_t>("block_size"), block_size);
    // the size of each list is there
    cursor.check_left("lists", rules.nlist, 2 * sizeof(uint64_t));
    lists->assign(rules.nlist, {});
    IdChecker checker(cursor, rules);
    for (FaissList& list : *lists) {
        list.ids = cursor.vector<int64_t>("ids", 0, uint64_t(rules.rows));
        checker.check_size(list.ids.size());
        checker.check(list.ids);
        const uint64_t blocks = (list.ids.size() + block_rows - 1) / block_rows;
        cursor.check_is(
                "size of codes",
                cursor.get<uint64_t>("size of codes"),
                blocks * block_size);
        list.codes = cursor.bytes("codes", blocks * block_size);
    }
    checker.finish();
}

} // namespace faiss_ext
