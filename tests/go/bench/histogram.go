package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets about 1.5 % wide.
type histogram struct {
	counts [64 * subBuckets]uint64
	total  uint64
	max    time.Duration
}

const subBuckets = 64

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 1))
	shift := bits.Len64(n) - 7
	if shift <= 0 {
		return int(n)
	}
	return shift*subBuckets + int(n>>shift)
}

func valueOf(bucket int) time.Duration {
	if bucket < 2*subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	return time.Duration(uint64(bucket-shift*subBuckets) << shift)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// quantile is the duration below which the share q of all lies.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(h.total)), uint64(0)
	for i, n := range h.counts {
		if seen += n; seen > rank {
			return valueOf(i)
		}
	}
	return h.max
}
