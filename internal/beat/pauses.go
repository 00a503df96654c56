package beat

import "time"

// pauses remembers the longest pause of each of the last ten minutes. Times are those of any one clock.
type pauses struct {
	minute   int64
	byMinute [10]time.Duration // by minute, the latest first
}

// note takes in a pause that ended at that time.
func (p *pauses) note(at, pause time.Duration) {
	p.turn(at)
	p.byMinute[0] = max(p.byMinute[0], pause)
}

// longest is the longest pause of the last ten minutes.
func (p *pauses) longest(at time.Duration) (most time.Duration) {
	p.turn(at)
	for _, d := range p.byMinute {
		most = max(most, d)
	}
	return most
}

func (p *pauses) turn(at time.Duration) {
	minute := int64(at / time.Minute)
	n := minute - p.minute
	if n <= 0 {
		return
	}
	p.minute = minute
	n = min(n, int64(len(p.byMinute)))
	copy(p.byMinute[n:], p.byMinute[:])
	clear(p.byMinute[:n])
}
