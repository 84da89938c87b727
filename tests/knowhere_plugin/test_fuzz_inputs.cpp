/* Inputs that fuzzers found (tests/fuzz), each of which once crashed, hung or
 * took memory beyond all measure. tests/data/fuzz/TARGET/WHAT_IT_WAS */

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "fuzz/targets.h"

namespace {

namespace fs = std::filesystem;

struct Input {
    std::string target;
    fs::path path;
};

void PrintTo(const Input& input, std::ostream* out) {
    *out << input.target << "/" << input.path.filename().string();
}

std::vector<Input> inputs() {
    std::vector<Input> all;
    for (const auto& folder :
         fs::directory_iterator(fs::path(FAISS_EXT_TEST_DATA) / "fuzz")) {
        for (const auto& file : fs::directory_iterator(folder.path())) {
            all.push_back({folder.path().filename().string(), file.path()});
        }
    }
    std::sort(all.begin(), all.end(), [](const Input& a, const Input& b) {
        return a.path < b.path;
    });
    return all;
}

/// A hang: a second on a quiet machine. Many ways, sanitizers and neighbours
/// take more.
constexpr double kMostSeconds = 30;

class FuzzInput : public testing::TestWithParam<Input> {};

TEST_P(FuzzInput, KeepsThePromise) {
    std::ifstream in(GetParam().path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    fuzz::Bytes bytes(
            reinterpret_cast<const uint8_t*>(text.data()), text.size());
    auto start = std::chrono::steady_clock::now();
    const std::string& target = GetParam().target;
    if (target == "index_file") {
        for (uint32_t way = 0; way < fuzz::kWays; way++) {
            EXPECT_NO_THROW(fuzz::index_file(bytes, way)) << way;
        }
    } else if (target == "node_blob") {
        for (uint32_t way = 0; way < fuzz::kWays; way++) {
            EXPECT_NO_THROW(fuzz::node_blob(bytes, way)) << way;
        }
    } else if (target == "factory_string") {
        EXPECT_NO_THROW(fuzz::factory_string(bytes));
    } else if (target == "node_config") {
        EXPECT_NO_THROW(fuzz::node_config(bytes));
    } else {
        FAIL() << "no target " << target;
    }
    std::chrono::duration<double> taken =
            std::chrono::steady_clock::now() - start;
    EXPECT_LT(taken.count(), kMostSeconds);
}

INSTANTIATE_TEST_SUITE_P(
        Found,
        FuzzInput,
        testing::ValuesIn(inputs()),
        [](const testing::TestParamInfo<Input>& info) {
            std::string name =
                    info.param.target + "_" + info.param.path.stem().string();
            for (char& c : name) {
                c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
            }
            return name;
        });

} // namespace
