#include <faiss_ext/io/column_tiers.h>

#include <algorithm>
#include <iterator>

#include <faiss_ext/io/list_sections.h>
#include <faiss_ext/lists/on_demand_rows.h>
#include <faiss_ext/memory/file_fault.h>

namespace faiss_ext {

namespace {

/// Columns, the first one first into memory.
constexpr const char* kByNeed[] =
        {"codes", "ids", "primary", "tags", "refine", "raw"};
/// The one that searches can read by themselves.
constexpr char kRows[] = "raw";

/// The name without the prefix of copies.
std::string column_of(const std::string& section) {
    return section.rfind(kOfCopies, 0) == 0
                   ? section.substr(sizeof(kOfCopies) - 1)
                   : section;
}

bool is_column(const std::string& section) {
    const std::string name = column_of(section);
    return std::any_of(
            std::begin(kByNeed), std::end(kByNeed), [&](const char* column) {
                return name == column;
            });
}

void add_bytes(
        const ScaNNLists& lists,
        const std::string& prefix,
        std::vector<ColumnBytes>& all) {
    visit_columns(lists.layout(), [&](const char* name, auto column, auto&&) {
        ColumnBytes bytes;
        bytes.column = prefix + name;
        uint64_t borrowed = 0;
        for (size_t l = 0; l < lists.nlist; l++) {
            const auto& buffer = lists.list(l).*column;
            const uint64_t size = buffer.size() * sizeof(buffer[0]);
            (buffer.is_borrowed() ? borrowed : bytes.memory) += size;
        }
        const bool on_demand =
                bytes.column == kRows && lists.on_demand_rows() != nullptr;
        (on_demand ? bytes.on_demand : bytes.mapped) = borrowed;
        bytes.cache = on_demand ? lists.on_demand_rows()->cache_bytes() : 0;
        all.push_back(bytes);
    });
}

} // namespace

ColumnPlan plan_columns(const SectionReader& reader, const ReadBounds& bounds) {
    uint64_t used = 0;
    for (const auto& [name, bytes] : reader.sections()) {
        used += is_column(name) ? 0 : bytes;
    }
    if (used > bounds.memory) {
        throw ArgumentFault(
                "memory = " + std::to_string(bounds.memory) +
                " bytes (allowed: at least " + std::to_string(used) +
                ", for all of the file but its columns)");
    }
    ColumnPlan plan;
    for (const char* column : kByNeed) {
        for (const auto& [name, bytes] : reader.sections()) {
            if (column_of(name) != column) {
                continue;
            }
            if (bytes <= bounds.memory - used) {
                plan.in_memory.insert(name);
                used += bytes;
            } else if (name == kRows) {
                plan.rows_on_demand = true;
            }
        }
    }
    plan.row_cache = plan.rows_on_demand ? bounds.memory - used : 0;
    return plan;
}

std::vector<ColumnBytes> column_bytes(
        const SectionReader& reader,
        const ColumnPlan& plan) {
    std::vector<ColumnBytes> all;
    for (const auto& [name, size] : reader.sections()) {
        if (is_column(name)) {
            ColumnBytes bytes;
            bytes.column = name;
            (plan.in_memory.count(name) > 0 ? bytes.memory
             : name == kRows                ? bytes.on_demand
                                            : bytes.mapped) = size;
            bytes.cache = name == kRows ? plan.row_cache : 0;
            all.push_back(bytes);
        }
    }
    return all;
}

std::vector<ColumnBytes> column_bytes(const IndexState& state) {
    std::vector<ColumnBytes> all;
    add_bytes(*state.lists, "", all);
    if (state.spilled != nullptr) {
        add_bytes(*state.spilled, kOfCopies, all);
    }
    return all;
}

} // namespace faiss_ext
