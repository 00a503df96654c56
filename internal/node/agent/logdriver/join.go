package logdriver

import "regexp"

// join puts lines together that are one event: those from one that starts matches up to the next.
type join struct {
	starts *regexp.Regexp // nil: each line is an event
	held   *event
}

// take adds lines and returns the events that they complete.
func (j *join) take(lines []event) []event {
	if j.starts == nil {
		return lines
	}
	var whole []event
	for _, l := range lines {
		if j.held != nil && (j.starts.Match(l.text) || len(j.held.text)+1+len(l.text) > maxLine) {
			whole = append(whole, *j.held)
			j.held = nil
		}
		if j.held == nil {
			l.text = append([]byte(nil), l.text...)
			j.held = &l
			continue
		}
		j.held.text = append(append(j.held.text, '\n'), l.text...)
		j.held.end, j.held.ended = l.end, l.ended
	}
	return whole
}

// flush returns the event that is held, which will not grow any more.
func (j *join) flush() []event {
	if j.held == nil {
		return nil
	}
	e := *j.held
	j.held = nil
	return []event{e}
}

func (j *join) pending() bool { return j.held != nil }
