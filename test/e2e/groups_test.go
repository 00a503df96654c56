package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// estate is a VPC of a user's own: two subnets, and groups for a load balancer, for what is behind it and for a stranger.
type estate struct {
	*berth
	api               *ec2.Client
	vpc               string
	subnets           []string
	cidrs             []string
	alb, web, strange string
}

func (b *berth) estate(second int) *estate {
	b.t.Helper()
	ctx := context.Background()
	e := &estate{berth: b, api: ec2.NewFromConfig(b.config())}
	check := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	vpc, err := e.api.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(fmt.Sprintf("10.%d.0.0/16", second))})
	check(err)
	e.vpc = *vpc.Vpc.VpcId
	igw, err := e.api.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	check(err)
	_, err = e.api.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: igw.InternetGateway.InternetGatewayId, VpcId: &e.vpc})
	check(err)
	for i, zone := range []string{"us-east-1a", "us-east-1b"} {
		e.cidrs = append(e.cidrs, fmt.Sprintf("10.%d.%d.0/24", second, i+1))
		s, err := e.api.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &e.vpc, CidrBlock: &e.cidrs[i], AvailabilityZone: &zone})
		check(err)
		e.subnets = append(e.subnets, *s.Subnet.SubnetId)
	}
	for name, id := range map[string]*string{"alb": &e.alb, "web": &e.web, "strange": &e.strange} {
		g, err := e.api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: &name, Description: &name, VpcId: &e.vpc})
		check(err)
		*id = *g.GroupId
	}
	return e
}

func (e *estate) allow(group, from string, port int32) {
	e.t.Helper()
	_, err := e.api.AuthorizeSecurityGroupIngress(context.Background(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: permission(from, port)})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *estate) forbid(group, from string, port int32) {
	e.t.Helper()
	_, err := e.api.RevokeSecurityGroupIngress(context.Background(), &ec2.RevokeSecurityGroupIngressInput{GroupId: &group, IpPermissions: permission(from, port)})
	if err != nil {
		e.t.Fatal(err)
	}
}

func permission(from string, port int32) []ec2types.IpPermission {
	return []ec2types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: &from}}}}
}

func (e *estate) network(groups ...string) *types.NetworkConfiguration {
	return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: e.subnets, SecurityGroups: groups}}
}

// shell runs a task in groups in which programs can be run, and returns its id and its address.
func (e *estate) shell(groups ...string) (id, address string) {
	e.t.Helper()
	def := e.register("shell", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("shell"), Image: aws.String("app:1")})
	out, err := e.ecs().RunTask(context.Background(), &ecs.RunTaskInput{TaskDefinition: &def, NetworkConfiguration: e.network(groups...), EnableExecuteCommand: true})
	if err != nil || len(out.Tasks) != 1 {
		e.t.Fatalf("%+v %v", out, err)
	}
	task := e.reaches(*out.Tasks[0].TaskArn, "RUNNING")
	return last(*task.TaskArn), addressOf(task)
}

func last(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

func addressOf(t types.Task) string {
	for _, a := range t.Attachments {
		for _, d := range a.Details {
			if *d.Name == "privateIPv4Address" {
				return *d.Value
			}
		}
	}
	return ""
}

// asks has a task ask an address for its page.
func (e *estate) asks(task, address string) error {
	out, err := e.cli("exec", task, "--", "/web", "fetch", "http://"+address+"/", "500ms")
	if !strings.HasPrefix(out, "fetch") {
		e.t.Errorf("a task could not ask: %q %v", out, err)
	}
	if err == nil && strings.TrimSpace(out) != "fetched 200" {
		err = fmt.Errorf("it answered %q", out)
	}
	return err
}

// TestSecurityGroupsOfAUsersVPC: tasks in a user's VPC have addresses of their subnet; a load balancer reaches them by its group, a
// stranger does not, until a rule lets it in, within a second; and the rule goes as quickly.
func TestSecurityGroupsOfAUsersVPC(t *testing.T) {
	b := start(t)
	b.importImage("app:1")
	e := b.estate(91)
	e.allow(e.web, e.alb, 80)
	ctx, balancers, port := context.Background(), elb.NewFromConfig(b.config()), int32(freePort(t))
	lb, err := balancers.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: aws.String("lb"), Subnets: e.subnets, SecurityGroups: []string{e.alb}})
	if err != nil {
		t.Fatal(err)
	}
	group, err := balancers.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: aws.String("tg"), Port: aws.Int32(80), Protocol: elbtypes.ProtocolEnumHttp,
		TargetType: elbtypes.TargetTypeEnumIp, VpcId: &e.vpc, HealthCheckIntervalSeconds: aws.Int32(5), HealthCheckTimeoutSeconds: aws.Int32(2)})
	if err != nil {
		t.Fatal(err)
	}
	arn := group.TargetGroups[0].TargetGroupArn
	if _, err = balancers.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: lb.LoadBalancers[0].LoadBalancerArn, Port: &port, Protocol: elbtypes.ProtocolEnumHttp,
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: arn}}}); err != nil {
		t.Fatal(err)
	}
	def := b.register("web", types.NetworkModeAwsvpc, types.ContainerDefinition{Name: aws.String("web"), Image: aws.String("app:1"),
		Environment:  []types.KeyValuePair{{Name: aws.String("NAME"), Value: aws.String("one")}},
		PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(80)}}})
	if _, err = b.ecs().CreateService(ctx, &ecs.CreateServiceInput{ServiceName: aws.String("web"), TaskDefinition: &def, DesiredCount: aws.Int32(1),
		NetworkConfiguration: e.network(e.web), LoadBalancers: []types.LoadBalancer{{TargetGroupArn: arn, ContainerName: aws.String("web"), ContainerPort: aws.Int32(80)}}}); err != nil {
		t.Fatal(err)
	}
	b.stable("web")
	b.eventually(10*time.Second, "the load balancer answers", func() error {
		status, body, _, err := get(fmt.Sprintf("http://127.0.0.1:%d", port))
		if err == nil && status != 200 {
			err = fmt.Errorf("%d %s", status, body)
		}
		return err
	})
	web, err := b.task("", b.tasks("web")[0])
	if err != nil {
		t.Fatal(err)
	}
	address := addressOf(web)
	subnet := netip.MustParsePrefix(e.cidrs[0])
	if a, err := netip.ParseAddr(address); err != nil || !subnet.Contains(a) {
		t.Errorf("the task has the address %q, and its subnet %s", address, subnet)
	}
	enis, err := e.api.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{{Name: aws.String("group-id"), Values: []string{e.web}}}})
	if err != nil || len(enis.NetworkInterfaces) != 1 || *enis.NetworkInterfaces[0].PrivateIpAddress != address {
		t.Errorf("%+v %v", enis, err)
	}
	stranger, _ := e.shell(e.strange)
	if err := e.asks(stranger, address); err == nil {
		t.Error("a stranger reaches the task")
	}
	began := time.Now()
	e.allow(e.web, e.strange, 80)
	b.eventually(time.Second, "the rule holds", func() error { return e.asks(stranger, address) })
	t.Logf("a rule held after %s", time.Since(began))
	e.forbid(e.web, e.strange, 80)
	time.Sleep(time.Second)
	if err := e.asks(stranger, address); err == nil {
		t.Error("a stranger reaches the task a second after the rule has gone")
	}
	if _, _, _, err := get(fmt.Sprintf("http://127.0.0.1:%d", port)); err != nil {
		t.Errorf("the load balancer was disturbed: %v", err)
	}
	// A task of another VPC is apart, whatever the groups say.
	if _, err := e.api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &e.web, IpPermissions: []ec2types.IpPermission{
		{IpProtocol: aws.String("-1"), IpRanges: []ec2types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}, {CidrIp: aws.String("172.16.0.0/12")}}}}}); err != nil {
		t.Fatal(err)
	}
	other := b.estate(92)
	foreign, theirs := other.shell(other.strange)
	if err := e.asks(foreign, address); err == nil {
		t.Errorf("a task of another VPC (%s) reaches the task", theirs)
	}
	out, err := b.ecs().RunTask(ctx, &ecs.RunTaskInput{TaskDefinition: aws.String("shell"), NetworkConfiguration: network, EnableExecuteCommand: true})
	if err != nil {
		t.Fatal(err)
	}
	ours := b.reaches(*out.Tasks[0].TaskArn, "RUNNING")
	if err := e.asks(last(*ours.TaskArn), address); err == nil {
		t.Error("a task of the default VPC reaches a task of another")
	}
	if err := e.asks(stranger, address); err != nil {
		t.Errorf("a task of the same VPC does not: %v", err)
	}
}
