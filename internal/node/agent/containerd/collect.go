package containerd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/internal/timeouts"
)

// CollectConfig says when images are removed. The zero values are those of the Amazon ECS agent where it has them.
type CollectConfig struct {
	// Path is on the file system that is watched: containerd's root.
	Path string
	// Threshold is the share of the disk in use, 0–1, above which images are removed; 0 means 0.85.
	Threshold float64
	MinAge    time.Duration // since the image was last used; 0 means 1 h
	Max       int           // images removed in one call; 0 means 5
}

// Collect removes the images that were not used for longest and that no container needs, if the disk is fuller than the
// threshold. Imported and built images, which no registry may have, go last. It returns what it removed.
func (m *Images) Collect(ctx context.Context, c CollectConfig) ([]string, error) {
	if c.Threshold <= 0 {
		c.Threshold = 0.85
	}
	if c.MinAge <= 0 {
		c.MinAge = timeouts.ImageKeep
	}
	if c.Max <= 0 {
		c.Max = 5
	}
	used, err := diskUse(c.Path)
	if err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	if used <= c.Threshold {
		return nil, nil
	}
	ctx = m.r.context(ctx)
	all, err := m.unused(ctx, c.MinAge)
	if err != nil {
		return nil, fmt.Errorf("find unused images: %w", err)
	}
	var removed []string
	var errs []error
	for _, image := range all[:min(len(all), c.Max)] {
		gone, err := m.remove(ctx, image, c.MinAge)
		if err != nil {
			errs = append(errs, fmt.Errorf("remove the image %s: %w", image.Name, err))
		}
		if gone {
			m.log.Info("image removed, because the disk fills", "image", image.Name, "disk", fmt.Sprintf("%.0f%%", used*100))
			removed = append(removed, image.Name)
		}
	}
	if len(removed) > 0 {
		errs = append(errs, m.r.collectGarbage(ctx)) // returns when the space is free
	}
	return removed, errors.Join(errs...)
}

// remove removes an image unless somebody asked for it meanwhile; who asks now waits, and finds it gone.
func (m *Images) remove(ctx context.Context, image images.Image, age time.Duration) (gone bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.recent[image.Name]; ok && m.c.Now().Sub(at) < age {
		return false, nil
	}
	delete(m.recent, image.Name)
	if err := m.r.client.ImageService().Delete(ctx, image.Name); err != nil && !errdefs.IsNotFound(err) {
		return false, err
	}
	return true, nil
}

// unused returns the images that no container was made from and that are older than age, in the order in which they may go.
func (m *Images) unused(ctx context.Context, age time.Duration) ([]images.Image, error) {
	// Images first: a container made after its image was listed here has used it within the hour.
	all, err := m.r.client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := m.r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for _, c := range containers {
		needed[c.Image] = true
	}
	now := m.c.Now()
	m.mu.Lock()
	maps.DeleteFunc(m.recent, func(_ string, at time.Time) bool { return now.Sub(at) >= age })
	recent := maps.Clone(m.recent)
	m.mu.Unlock()
	all = slices.DeleteFunc(all, func(i images.Image) bool {
		_, asked := recent[i.Name]
		return asked || needed[i.Name] || now.Sub(lastUse(i)) < age
	})
	slices.SortStableFunc(all, func(a, b images.Image) int {
		if ka, kb := a.Labels[labelOrigin] != "", b.Labels[labelOrigin] != ""; ka != kb {
			if ka {
				return 1
			}
			return -1
		}
		return lastUse(a).Compare(lastUse(b))
	})
	return all, nil
}

func lastUse(i images.Image) time.Time {
	if t, err := time.Parse(time.RFC3339, i.Labels[labelUsed]); err == nil {
		return t
	}
	return i.UpdatedAt
}

// diskUse is the share of the file system of path that is in use.
func diskUse(path string) (float64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	usable := st.Blocks - st.Bfree + st.Bavail
	if usable == 0 {
		return 0, nil
	}
	return 1 - float64(st.Bavail)/float64(usable), nil
}
