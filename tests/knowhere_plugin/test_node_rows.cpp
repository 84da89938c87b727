/* Rows in and out of nodes: building, blobs, raw rows, bad input; every type
 * and metric. */

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "fixtures/node_fixtures.h"

using namespace node_tests;

namespace {

TEST_P(IndexNodeTest, GetVectorByIds) {
    NodePtr node = built();
    int64_t ids[] = {0, 2999, 17, 17};
    DataSet asked;
    asked.rows = 4;
    asked.ids = ids;
    auto got = node->GetVectorByIds(asked);
    std::string type = GetParam().type;
    bool raw = type == "SCANN" || (type != "IVF_PQ" && metric() != "COSINE");
    ASSERT_EQ(node->HasRawData(metric()), raw);
    if (!raw) {
        EXPECT_EQ(got.status().code, StatusCode::not_implemented);
        return;
    }
    ASSERT_TRUE(got.ok()) << got.status().message;
    for (int64_t i = 0; i < 4; i++) {
        EXPECT_TRUE(std::equal(
                &base[ids[i] * kDim],
                &base[ids[i] * kDim] + kDim,
                got.value().tensor + i * kDim));
    }
    // nothing of it goes into blobs
    auto blob = node->Serialize();
    NodePtr copy = create(type);
    ASSERT_TRUE(copy->Deserialize(blob.value()).ok());
    EXPECT_EQ(copy->Serialize().value(), blob.value());
    ASSERT_TRUE(copy->GetVectorByIds(asked).ok());
    EXPECT_EQ(copy->Serialize().value().size(), blob.value().size());
    // rows that came later
    ASSERT_TRUE(copy->Add(rows(1), {}).ok());
    ids[1] = 3000;
    got = copy->GetVectorByIds(asked);
    ASSERT_TRUE(got.ok()) << got.status().message;
    EXPECT_TRUE(std::equal(
            base.begin(), base.begin() + kDim, got.value().tensor + kDim));
    got = node->GetVectorByIds(asked);
    EXPECT_EQ(got.status().code, StatusCode::invalid_args);
    EXPECT_NE(got.status().message.find("3000"), std::string::npos);
    asked.ids = nullptr;
    EXPECT_FALSE(node->GetVectorByIds(asked).ok());
}

TEST_P(IndexNodeTest, Blobs) {
    NodePtr node = built();
    auto blob = node->Serialize();
    ASSERT_TRUE(blob.ok());
    auto want = node->Search(query_set(), wide());
    NodePtr copy = create(GetParam().type);
    auto same = [&] {
        auto got = copy->Search(query_set(), wide());
        ASSERT_TRUE(got.ok()) << got.status().message;
        EXPECT_TRUE(std::equal(
                got.value().ids,
                got.value().ids + kQueries * kK,
                want.value().ids));
        EXPECT_EQ(copy->Count(), kRows);
        EXPECT_EQ(copy->HasRawData(""), node->HasRawData(""));
    };
    ASSERT_TRUE(copy->Deserialize(blob.value()).ok());
    same();
    std::string path = testing::TempDir() + "/node_" + GetParam().type +
                       GetParam().metric + std::to_string(getpid());
    std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<char*>(blob.value().data()),
                   std::streamsize(blob.value().size()));
    for (const char* mmap : {"false", "True"}) {
        copy = create(GetParam().type);
        Status status =
                copy->DeserializeFromFile(path, {{"enable_mmap", mmap}});
        ASSERT_TRUE(status.ok()) << status.message;
        same();
    }
    std::remove(path.c_str());
    // no such file, a pipe that nobody writes to, a folder, a device
    std::string pipe = path + ".pipe";
    ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
    alarm(60);
    for (const std::string& wrong :
         {path, pipe, std::string("/tmp"), std::string("/dev/zero")}) {
        for (const char* mmap : {"false", "true"}) {
            Status status =
                    copy->DeserializeFromFile(wrong, {{"enable_mmap", mmap}});
            EXPECT_EQ(status.code, StatusCode::disk_file_error)
                    << status.message;
            EXPECT_NE(status.message.find(wrong), std::string::npos)
                    << status.message;
        }
    }
    alarm(0);
    std::remove(pipe.c_str());
    // damaged, cut, foreign: refused, and the old contents stay
    for (size_t at = 0; at < blob.value().size();
         at += blob.value().size() / 97 + 1) {
        Blob damaged = blob.value();
        damaged[at] ^= 0x41;
        Status status = copy->Deserialize(damaged);
        // padding between sections may change without harm
        EXPECT_TRUE(
                status.ok() || status.code == StatusCode::invalid_binary_set)
                << at << status.message;
        damaged.resize(at);
        status = copy->Deserialize(damaged);
        EXPECT_EQ(status.code, StatusCode::invalid_binary_set) << at;
    }
    NodePtr other =
            create(std::string(GetParam().type) == "FLAT" ? "HNSW" : "FLAT");
    EXPECT_EQ(
            other->Deserialize(blob.value()).code,
            StatusCode::invalid_binary_set);
    EXPECT_EQ(copy->Deserialize({}).code, StatusCode::invalid_binary_set);
    same();
}

TEST_P(IndexNodeTest, TrainThenAdd) {
    NodePtr node = create(GetParam().type);
    EXPECT_EQ(node->Add(rows(), {}).code, StatusCode::index_not_trained);
    EXPECT_EQ(
            node->Search(query_set(), {}).status().code,
            StatusCode::empty_index);
    EXPECT_EQ(node->Serialize().status().code, StatusCode::empty_index);
    EXPECT_EQ(node->Count() + node->Dim() + node->Size(), 0);
    ASSERT_TRUE(node->Train(rows(), build_config()).ok());
    EXPECT_EQ(node->Count(), 0);
    ASSERT_TRUE(node->Add(rows(1000), {}).ok());
    ASSERT_TRUE(node->Add({2000, kDim, &base[1000 * kDim]}, {}).ok());
    EXPECT_EQ(node->Count(), kRows);
    auto found = node->Search(query_set(), wide());
    ASSERT_TRUE(found.ok());
    EXPECT_GE(recall(found.value()), GetParam().recall);
}

TEST_P(IndexNodeTest, BadInput) {
    NodePtr node = built();
    Config config = build_config();
    auto code = [](const Status& status) {
        EXPECT_FALSE(status.message.empty());
        return status.code;
    };
    float bad[kDim] = {};
    bad[5] = std::nanf("");
    auto search = [&](DataSet set, Config with) {
        return code(node->Search(set, with).status());
    };
    EXPECT_EQ(search({1, kDim, bad}, {}), StatusCode::invalid_args);
    EXPECT_EQ(search({1, kDim + 1, bad}, {}), StatusCode::invalid_args);
    EXPECT_EQ(search({-1, kDim, bad}, {}), StatusCode::invalid_args);
    EXPECT_EQ(search({1, kDim, nullptr}, {}), StatusCode::invalid_args);
    EXPECT_EQ(
            search(query_set(), {{"k", "0"}}),
            StatusCode::out_of_range_in_json);
    EXPECT_EQ(
            search(query_set(), {{"k", "2147483647"}}),
            StatusCode::out_of_range_in_json);
    EXPECT_EQ(
            search(query_set(), {{"k", "ten"}}),
            StatusCode::type_conflict_in_json);
    EXPECT_EQ(
            search(query_set(), {{"metric_type", l2() ? "IP" : "L2"}}),
            StatusCode::invalid_metric_type);
    EXPECT_EQ(
            search(query_set(), {{"metric_type", "JACCARD"}}),
            StatusCode::invalid_metric_type);
    EXPECT_EQ(
            search(query_set(), {{"n_probe", "1"}}),
            StatusCode::invalid_param_in_json);
    EXPECT_EQ(
            code(node->Build({1, kDim, bad}, config)),
            StatusCode::invalid_args);
    EXPECT_EQ(code(node->Add({1, kDim, bad}, {})), StatusCode::invalid_args);
    config["dim"] = "17";
    EXPECT_EQ(code(node->Build(rows(), config)), StatusCode::invalid_args);
    EXPECT_EQ(node->Count(), kRows); // nothing was lost
}

/// What Faiss would print about few training rows.
TEST_P(IndexNodeTest, PrintsNothing) {
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    for (int64_t n : {1, 50, 700}) {
        NodePtr node = create(GetParam().type);
        EXPECT_TRUE(node->Build(rows(n), build_config()).ok());
        EXPECT_TRUE(node->Search(query_set(), {}).ok());
    }
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

INSTANTIATE_TEST_SUITE_P(All, IndexNodeTest, all_cases(), case_name);

} // namespace
