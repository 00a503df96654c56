package etcd

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// FsyncP99 is how long 99 of 100 writes of the log to the disk have taken at most since this process began, as etcd counts them: the
// upper bound of one of its steps, which are powers of 2 ms. ok is false when there was none.
func FsyncP99() (d time.Duration, ok bool) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return 0, false
	}
	for _, f := range families {
		if f.GetName() == "etcd_disk_wal_fsync_duration_seconds" && len(f.GetMetric()) > 0 {
			return quantile(f.GetMetric()[0].GetHistogram(), 0.99)
		}
	}
	return 0, false
}

// quantile is the upper bound of the bucket that holds the quantile.
func quantile(h *dto.Histogram, q float64) (time.Duration, bool) {
	if h.GetSampleCount() == 0 {
		return 0, false
	}
	want, last := q*float64(h.GetSampleCount()), 0.0
	for _, b := range h.GetBucket() {
		last = b.GetUpperBound()
		if float64(b.GetCumulativeCount()) >= want {
			break
		}
	}
	return time.Duration(last * float64(time.Second)), true
}
