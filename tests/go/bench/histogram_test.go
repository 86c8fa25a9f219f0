package main

import (
	"testing"
	"time"
)

func TestHistogramKeepsOrderAndSize(t *testing.T) {
	last := -1
	for d := time.Duration(1); d < time.Hour; d += d/50 + 1 {
		b := bucketOf(d)
		if b < last {
			t.Fatalf("bucket %d of %v after %d", b, d, last)
		}
		last = b
		if v := valueOf(b); v > d || d-v > d/32 {
			t.Fatalf("%v is counted as %v", d, v)
		}
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := h.quantile(q); got < want*95/100 || got > want*105/100 {
			t.Errorf("quantile %v is %v, not about %v", q, got, want)
		}
	}
}
