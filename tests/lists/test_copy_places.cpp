/* The map from entries to their spilled copies, beside a std::map. */

#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <faiss/impl/FaissException.h>

#include <faiss_ext/lists/copy_places.h>

#include "fixtures/lists_model.h"

namespace {

using namespace faiss_ext;
using faiss::lo_build;

constexpr size_t kLists = 5;

EntryLayout primary_layout() {
    EntryLayout layout;
    layout.d = 4;
    layout.M = 2;
    return layout;
}

/// Lists of zeros; every second entry or so has a copy in the next list.
struct Spilled {
    static constexpr size_t kSizes[kLists] = {0, 1, 7, 40, 3};

    explicit Spilled(int seed)
            : primary(kLists, primary_layout()),
              copies(kLists, primary_layout().of_copies()) {
        std::mt19937 random(seed);
        for (size_t l = 0; l < kLists; l++) {
            primary.resize(l, kSizes[l]);
            for (size_t i = 0; i < kSizes[l]; i++) {
                if (random() % 2 == 0) {
                    size_t to = (l + 1) % kLists;
                    size_t at = copies.list_size(to);
                    copies.resize(to, at + 1);
                    copies.set_primary(to, at, lo_build(l, i));
                    expected[lo_build(l, i)] = lo_build(to, at);
                }
            }
        }
    }

    ScaNNLists primary;
    ScaNNLists copies;
    std::map<uint64_t, uint64_t> expected; ///< of primary places
};

void expect_places(
        const CopyPlaces& places,
        const ScaNNLists& primary,
        const std::map<uint64_t, uint64_t>& expected) {
    for (size_t l = 0; l < kLists; l++) {
        // some beyond the end, too
        for (size_t i = 0; i < primary.list_size(l) + 3; i++) {
            auto known = expected.find(lo_build(l, i));
            ASSERT_EQ(
                    places.get(lo_build(l, i)),
                    known == expected.end() ? CopyPlaces::kNone : known->second)
                    << l << ", " << i;
        }
    }
}

TEST(CopyPlaces, AreThoseOfTheCopies) {
    for (int seed = 0; seed < 20; seed++) {
        Spilled made(seed);
        CopyPlaces places(made.primary, made.copies);
        expect_places(places, made.primary, made.expected);
        EXPECT_GE(places.memory_usage(), 51 * sizeof(uint64_t));
    }
}

TEST(CopyPlaces, FollowChanges) {
    Spilled made(1);
    CopyPlaces places(made.primary, made.copies);
    std::mt19937 random(2);
    for (int change = 0; change < 500; change++) {
        size_t list = random() % kLists, offset = random() % 60;
        uint64_t at = lo_build(list, offset);
        switch (random() % 5) {
            case 0:
                places.truncate(list, offset);
                made.expected.erase(
                        made.expected.lower_bound(at),
                        made.expected.lower_bound(lo_build(list + 1, 0)));
                break;
            case 1:
                places.set(at, CopyPlaces::kNone);
                made.expected.erase(at);
                break;
            default:
                places.set(at, change);
                made.expected[at] = change;
        }
        expect_places(places, made.primary, made.expected);
    }
}

TEST(CopyPlaces, RefuseDamagedCopies) {
    auto says = [](const Spilled& made) -> std::string {
        try {
            CopyPlaces(made.primary, made.copies);
        } catch (const faiss::FaissException& refused) {
            return refused.what();
        }
        return "nothing";
    };
    for (uint64_t wrong :
         {lo_build(2, 7), // after the last one
          lo_build(0, 0), // of an empty list
          lo_build(kLists, 0),
          ~uint64_t(0)}) {
        Spilled made(1);
        made.copies.set_primary(4, 0, wrong);
        EXPECT_NE(says(made).find("which is not there"), std::string::npos)
                << wrong;
    }
    Spilled made(1);
    ASSERT_GE(made.copies.list_size(4), 2u);
    made.copies.set_primary(4, 1, made.copies.list(4).primary[0]);
    EXPECT_NE(says(made).find("has two"), std::string::npos);
}

} // namespace
