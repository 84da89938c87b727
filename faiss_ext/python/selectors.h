/*
 * Which ids a search may return or a removal takes: Filter, and selectors by
 * Faiss' names, which nest.
 *
 * In: arrays, numbers, other selectors. Out: for an index of so many vectors a
 * faiss::IDSelector that the engine tests by words. Immutable; a selector holds
 * copies and other selectors, no Python object. All functions need the GIL.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <faiss/impl/IDSelector.h>
#include <pybind11/pybind11.h>

#include "constructed.h"

namespace faiss_ext::python {

namespace py = pybind11;

/// Where the ids lie that a selector takes.
struct SelectorExtent {
    bool bounded = false; ///< all of them in begin .. end - 1
    int64_t begin = 0;
    int64_t end = 0; ///< INT64_MAX: that one included
};

class Selector : public std::enable_shared_from_this<Selector> {
 public:
    virtual ~Selector() = default;

    virtual bool is_member(int64_t id) const = 0;
    virtual std::string description() const = 0;
    virtual SelectorExtent extent() const = 0;
    /// The bits of the ids first .. first + 64 n - 1, as a bitmap of
    /// little-endian bytes. @param first  >= 0, a multiple of 64
    virtual void fill(int64_t first, uint64_t* words, size_t n) const = 0;
    /// One of Faiss' that the engine takes as it is, or nullptr.
    virtual const faiss::IDSelector* of_faiss() const {
        return nullptr;
    }
    /// of_faiss() needs no table to be fast.
    virtual bool is_fast() const {
        return false;
    }
    /// @throws ValueError if it is said of some ids 0..ntotal - 1 only
    virtual void check_covers(int64_t ntotal) const {
        (void)ntotal;
    }

    /// How far selectors may nest, and of how many one may consist.
    static constexpr size_t kMaxLevels = 1000;
    static constexpr size_t kMaxParts = 10000;
    size_t levels() const {
        return levels_;
    }
    size_t parts() const {
        return parts_;
    }

    /** For a search in an index of so many vectors, whose ids are as a rule
     * below that. A table is made when first wanted, and kept. */
    std::shared_ptr<const faiss::IDSelector> for_index(int64_t ntotal) const;

 protected:
    Selector() = default;
    /// One that is made of others. @throws ValueError if there are too many
    Selector(const Selector& left, const Selector* right);

 private:
    struct Table;

    size_t levels_ = 1;
    size_t parts_ = 1;
    mutable std::shared_ptr<const Table> table_;
};

using SelectorPointer = std::shared_ptr<const Selector>;

/// Ids in a set: a bitmap where they lie close together.
class IdsSelector : public Selector {
 public:
    bool is_member(int64_t id) const override;
    SelectorExtent extent() const override;
    void fill(int64_t first, uint64_t* words, size_t n) const override;
    const faiss::IDSelector* of_faiss() const override {
        return selector_.get();
    }
    bool is_fast() const override {
        return true;
    }
    std::string description() const override;
    /// ids taken
    size_t count() const {
        return count_;
    }

 protected:
    IdsSelector() = default;
    void set_flags(const uint8_t* flags, size_t n);
    void set_ids(std::vector<int64_t> ids);
    void set_bits(const uint8_t* bytes, size_t n);

 private:
    void use_bitmap(size_t bytes);

    size_t count_ = 0;
    std::vector<uint8_t> bitmap_; ///< padded by kBitmapPadding zeros
    std::vector<int64_t> ids_;    ///< or these, in order
    std::unique_ptr<faiss::IDSelector> selector_;
};

/** A mask or ids, as searches take them. */
class Filter : public IdsSelector {
 public:
    /// @param value  bool mask over ids 0 .. len - 1, or integer array of ids
    explicit Filter(py::handle value);
    void check_covers(int64_t ntotal) const override;
    std::string description() const override;

 private:
    bool is_mask_ = false;
    size_t flags_ = 0; ///< length of the mask given
};

/// IDSelectorArray and IDSelectorBatch, which differ in Faiss by speed alone.
class ArraySelector : public IdsSelector {
 public:
    explicit ArraySelector(py::handle ids);
    explicit ArraySelector(std::vector<int64_t> ids);
};

class BatchSelector : public IdsSelector {
 public:
    explicit BatchSelector(py::handle ids);
};

class BitmapSelector : public IdsSelector {
 public:
    explicit BitmapSelector(py::handle bitmap);
    std::string description() const override;

 private:
    size_t bytes_ = 0;
};

class RangeSelector : public Selector {
 public:
    RangeSelector(int64_t imin, int64_t imax);
    bool is_member(int64_t id) const override;
    std::string description() const override;
    SelectorExtent extent() const override;
    void fill(int64_t first, uint64_t* words, size_t n) const override;
    const faiss::IDSelector* of_faiss() const override {
        return &range_;
    }
    int64_t imin() const {
        return range_.imin;
    }
    int64_t imax() const {
        return range_.imax;
    }

 private:
    faiss::IDSelectorRange range_;
};

class AllSelector : public Selector {
 public:
    bool is_member(int64_t id) const override;
    std::string description() const override;
    SelectorExtent extent() const override;
    void fill(int64_t first, uint64_t* words, size_t n) const override;
};

class NotSelector : public Selector {
 public:
    explicit NotSelector(SelectorPointer sel);
    bool is_member(int64_t id) const override;
    std::string description() const override;
    SelectorExtent extent() const override;
    void fill(int64_t first, uint64_t* words, size_t n) const override;
    void check_covers(int64_t ntotal) const override;
    const SelectorPointer& sel() const {
        return sel_;
    }

 private:
    SelectorPointer sel_;
};

/// Two selectors, of whose answers one is made.
class PairSelector : public Selector {
 public:
    bool is_member(int64_t id) const override;
    std::string description() const override;
    SelectorExtent extent() const override;
    void fill(int64_t first, uint64_t* words, size_t n) const override;
    void check_covers(int64_t ntotal) const override;
    const SelectorPointer& left() const {
        return left_;
    }
    const SelectorPointer& right() const {
        return right_;
    }

 protected:
    enum class Join { And, Or, Xor };
    PairSelector(Join join, SelectorPointer left, SelectorPointer right);

 private:
    Join join_;
    SelectorPointer left_;
    SelectorPointer right_;
};

class AndSelector : public PairSelector {
 public:
    AndSelector(SelectorPointer left, SelectorPointer right)
            : PairSelector(Join::And, std::move(left), std::move(right)) {}
};

class OrSelector : public PairSelector {
 public:
    OrSelector(SelectorPointer left, SelectorPointer right)
            : PairSelector(Join::Or, std::move(left), std::move(right)) {}
};

class XorSelector : public PairSelector {
 public:
    XorSelector(SelectorPointer left, SelectorPointer right)
            : PairSelector(Join::Xor, std::move(left), std::move(right)) {}
};

} // namespace faiss_ext::python

namespace pybind11::detail {

template <class T>
struct type_caster<
        T,
        std::enable_if_t<std::is_base_of_v<faiss_ext::python::Selector, T>>>
        : faiss_ext::python::ConstructedCaster<T> {};

} // namespace pybind11::detail
