/* Data, nodes and expectations that the tests of the plug-in share. */

#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <set>
#include <sstream>

#include <unistd.h>

#include <gtest/gtest.h>

#include "fixtures/random_rows.h"
#include "fixtures/reference.h"
#include "host_node.h"

namespace fake_host {

constexpr int64_t kDim = 24;
constexpr int64_t kRows = 6000;
constexpr int64_t kQueries = 50;
const char* const kMetrics[] = {"L2", "IP", "COSINE"};

inline const std::vector<float>& data() {
    static const std::vector<float> rows =
            random_rows::clustered(kRows, kDim, {100, 3}, 3);
    return rows;
}

inline Rows rows(int64_t n = kRows) {
    return {n, kDim, data().data()};
}

/// Rows 0, 1, ... are queries too, a little off.
inline Rows queries(int64_t n = kQueries) {
    static const std::vector<float> moved = [] {
        std::vector<float> x(data().begin(), data().begin() + 1000 * kDim);
        std::vector<float> noise = random_rows::normal(x.size(), 9);
        for (size_t i = 0; i < x.size(); i++) {
            x[i] += noise[i] / 10;
        }
        return x;
    }();
    return {n, kDim, moved.data()};
}

/// Exact answers; distances as the metric has them.
inline reference::Hits exact(const std::string& metric, int64_t n, size_t k) {
    std::vector<float> base = data();
    base.resize(n * kDim);
    std::vector<float> q(queries().x, queries().x + kQueries * kDim);
    if (metric == "COSINE") {
        base = reference::normalized(base, kDim);
        q = reference::normalized(q, kDim);
    }
    return reference::exact_search(
            metric == "L2" ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT,
            kDim,
            base,
            q,
            k);
}

inline double recall(const Answer& got, const reference::Hits& want) {
    size_t hits = 0;
    for (int64_t q = 0; q < got.rows; q++) {
        std::set<int64_t> mine(
                got.ids.begin() + q * got.k, got.ids.begin() + (q + 1) * got.k);
        for (int64_t i = 0; i < got.k; i++) {
            hits += mine.count(want.labels[q * got.k + i]);
        }
    }
    return double(hits) / double(got.rows * got.k);
}

inline HostNode built(Request request = {}, int64_t n = kRows) {
    HostNode node;
    request.insert({"metric_type", "L2"});
    request.insert({"nlist", "64"});
    request.insert({"dim", "24"});
    EXPECT_EQ(node.build(rows(n), request), abi::Status::success);
    return node;
}

inline Request wide(const char* metric = "L2") {
    return {{"k", 10}, {"metric_type", metric}, {"nprobe", 64}};
}

inline void expect_error(
        const Answer& answer,
        std::initializer_list<const char*> parts) {
    EXPECT_FALSE(answer.ok());
    for (const char* part : parts) {
        EXPECT_NE(answer.message.find(part), std::string::npos)
                << part << " not in: " << answer.message;
    }
}

/// Value of a counter, read as tests of the server do.
inline uint64_t counter(const std::string& name) {
    std::ifstream in(std::getenv("SCANN_PLUGIN_STATS"), std::ios::binary);
    char record[32];
    while (in.read(record, sizeof(record))) {
        if (name == record) {
            uint64_t value;
            std::copy_n(record + 24, 8, reinterpret_cast<char*>(&value));
            return value;
        }
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
}

/// What `work` writes to stderr.
template <class Work>
std::string log_of(Work&& work) {
    std::string path = testing::TempDir() + "plugin_log";
    std::fflush(stderr);
    int before = dup(STDERR_FILENO);
    FILE* file = std::fopen(path.c_str(), "w");
    dup2(fileno(file), STDERR_FILENO);
    work();
    dup2(before, STDERR_FILENO);
    close(before);
    std::fclose(file);
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

inline void expect_in(
        const std::string& text,
        std::initializer_list<const char*> parts) {
    for (const char* part : parts) {
        EXPECT_NE(text.find(part), std::string::npos)
                << part << " not in: " << text;
    }
}

} // namespace fake_host
