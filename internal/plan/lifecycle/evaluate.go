package lifecycle

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Image is one image of the repository.
type Image struct {
	Digest     string
	Tags       []string
	PushedAt   time.Time
	PulledAt   time.Time // zero: never
	Archived   bool
	ArchivedAt time.Time
	Children   []string // digests of an index's manifests
	Subject    string   // the digest that it refers to
	InUse      bool     // a task that runs or is to run has it
}

// Verdict says what a policy does with an image. Action is "" for one that a rule would expire or archive, but which is kept.
type Verdict struct {
	Digest   string
	Priority int // of the rule
	Action   string
	Reason   string
}

// Evaluate returns the verdicts on the images that a rule has something to do with, the oldest push first.
//
// All rules look at all images; then they are applied by priority. An image belongs to the first rule whose tags and storage class fit
// it, and no other rule touches it, though others count it. Images without tags that an index lists or that refer to another image
// are neither counted nor selected: they stay as long as that one is there, and go with it.
func Evaluate(p Policy, images []Image, now time.Time) []Verdict {
	e := newEvaluation(images)
	owner := map[string]int{}
	for n, r := range p.Rules {
		var fits []*Image
		for _, img := range e.sorted {
			if e.dependent[img.Digest] || !r.fits(img) {
				continue
			}
			if _, taken := owner[img.Digest]; !taken {
				owner[img.Digest] = n
			}
			fits = append(fits, img)
		}
		for i, img := range fits {
			if owner[img.Digest] == n && r.due(img, i, now) {
				e.judge(r, img)
			}
		}
	}
	return e.verdicts()
}

type evaluation struct {
	byDigest  map[string]*Image
	sorted    []*Image            // the newest push first
	parents   map[string][]string // the indexes that list an image
	referrers map[string][]string
	dependent map[string]bool
	held      map[string]bool // in use, or a part or the whole of what is
	given     map[string]Verdict
}

func newEvaluation(images []Image) *evaluation {
	e := &evaluation{byDigest: map[string]*Image{}, parents: map[string][]string{}, referrers: map[string][]string{},
		dependent: map[string]bool{}, held: map[string]bool{}, given: map[string]Verdict{}}
	for i := range images {
		e.byDigest[images[i].Digest] = &images[i]
		e.sorted = append(e.sorted, &images[i])
	}
	slices.SortFunc(e.sorted, func(a, b *Image) int {
		return cmp.Or(b.PushedAt.Compare(a.PushedAt), cmp.Compare(a.Digest, b.Digest))
	})
	for _, img := range e.sorted {
		for _, child := range img.Children {
			if child != img.Digest {
				e.parents[child] = append(e.parents[child], img.Digest)
			}
		}
		if e.byDigest[img.Subject] != nil && img.Subject != img.Digest {
			e.referrers[img.Subject] = append(e.referrers[img.Subject], img.Digest)
		}
	}
	for _, img := range e.sorted {
		e.dependent[img.Digest] = len(img.Tags) == 0 && (len(e.parents[img.Digest]) > 0 || e.byDigest[img.Subject] != nil && img.Subject != img.Digest)
	}
	for _, img := range e.sorted {
		if img.InUse {
			e.hold(img.Digest)
		}
	}
	return e
}

// hold keeps an image, what lists it and what it refers to.
func (e *evaluation) hold(digest string) {
	img := e.byDigest[digest]
	if img == nil || e.held[digest] {
		return
	}
	e.held[digest] = true
	for _, parent := range e.parents[digest] {
		e.hold(parent)
	}
	e.hold(img.Subject)
}

// judge gives a rule's verdict on an image that is due, and on what goes with it.
func (e *evaluation) judge(r Rule, img *Image) {
	v := Verdict{Digest: img.Digest, Priority: r.Priority, Action: r.Action.Type, Reason: r.why()}
	switch {
	case e.held[img.Digest]:
		v.Action, v.Reason = "", "kept: a running task uses it"
	case len(e.parents[img.Digest]) > 0:
		v.Action, v.Reason = "", "kept: the index "+e.parents[img.Digest][0]+" lists it"
	}
	e.given[img.Digest] = v
	if v.Action == Expire {
		e.follow(img, r)
	}
}

// follow expires what was there only for an image that goes: its referrers, and children that no other index lists.
func (e *evaluation) follow(img *Image, r Rule) {
	for _, digest := range append(slices.Clone(img.Children), e.referrers[img.Digest]...) {
		part := e.byDigest[digest]
		if part == nil || !e.dependent[digest] || e.held[digest] || e.given[digest].Action == Expire {
			continue
		}
		if slices.ContainsFunc(e.parents[digest], func(p string) bool { return e.given[p].Action != Expire }) {
			continue
		}
		if s := part.Subject; e.byDigest[s] != nil && s != digest && e.given[s].Action != Expire {
			continue
		}
		e.given[digest] = Verdict{Digest: digest, Priority: r.Priority, Action: Expire, Reason: "goes with " + img.Digest}
		e.follow(part, r)
	}
}

func (e *evaluation) verdicts() []Verdict {
	all := []Verdict{}
	for _, img := range slices.Backward(e.sorted) {
		if v, ok := e.given[img.Digest]; ok {
			all = append(all, v)
		}
	}
	return all
}

// fits tells whether an image has the tags and the storage class that a rule selects.
func (r Rule) fits(img *Image) bool {
	if img.Archived != (r.class() == Archive) {
		return false
	}
	switch s := r.Selection; s.TagStatus {
	case Untagged:
		return len(img.Tags) == 0
	case Tagged:
		return each(s.TagPrefixes, img.Tags, func(p, tag string) bool { return strings.HasPrefix(tag, p) }) && each(s.TagPatterns, img.Tags, match)
	}
	return true
}

// each tells whether each of the wanted is found among the tags.
func each(wanted, tags []string, fits func(wanted, tag string) bool) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(tags, func(tag string) bool { return fits(w, tag) }) {
			return false
		}
	}
	return len(tags) > 0
}

// match tells whether a tag is what a pattern with * for anything says.
func match(pattern, tag string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == tag
	}
	if !strings.HasPrefix(tag, parts[0]) {
		return false
	}
	tag = tag[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(tag, part)
		if i < 0 {
			return false
		}
		tag = tag[i+len(part):]
	}
	return len(tag) >= len(last) && strings.HasSuffix(tag, last)
}

// due tells whether an image, of which so many that fit were pushed later, is too many or too old.
func (r Rule) due(img *Image, later int, now time.Time) bool {
	age := time.Duration(r.Selection.CountNumber) * 24 * time.Hour
	switch r.Selection.CountType {
	case MoreThan:
		return later >= r.Selection.CountNumber
	case SincePushed:
		return now.Sub(img.PushedAt) > age
	case SincePulled:
		if img.PulledAt.IsZero() {
			return now.Sub(img.PushedAt) > age
		}
		return now.Sub(img.PulledAt) > age
	}
	return now.Sub(img.ArchivedAt) > age
}

func (r Rule) why() string {
	n := strconv.Itoa(r.Selection.CountNumber)
	switch r.Selection.CountType {
	case MoreThan:
		return "more than " + n + " such images"
	case SincePushed:
		return "pushed more than " + n + " days ago"
	case SincePulled:
		return "not pulled for more than " + n + " days"
	}
	return "archived more than " + n + " days ago"
}
