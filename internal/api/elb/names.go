package elb

import (
	"strconv"

	"github.com/berthdev/berth/internal/model"
)

// portText is the port that a target's health is asked at.
func portText(g *model.TargetGroup, t *model.Target) string {
	if p := text(g.Group.HealthCheckPort); p != "traffic-port" {
		return p
	}
	return strconv.Itoa(int(t.Port))
}
