package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repo is the root of the checkout.
func repo(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildShop builds the four images into b's registry.
func (b *berth) buildShop() {
	b.t.Helper()
	root := repo(b.t)
	if _, err := os.Stat(filepath.Join(root, "bin/shop/storefront")); err != nil {
		b.t.Skip("the shop's programs are not built: run `make shop`")
	}
	for _, part := range []string{"storefront", "auth", "inventory", "payment"} {
		b.mustCLI("build", "--progress", "plain", "-t", "shop/"+part, "-f", filepath.Join(root, "examples/shop", part, "Dockerfile"),
			filepath.Join(root, "bin/shop"))
	}
}

func shopIsOpen(address string) error {
	for _, path := range []string{"/", "/auth/whoami", "/inventory/products", "/payment/whoami", "/storefront/whoami"} {
		status, body, header, err := get(address + path)
		if err != nil {
			return err
		}
		if status != 200 || len(header.Get("X-Task")) != 32 {
			return fmt.Errorf("%s: %d, task %q, %.80s", path, status, header.Get("X-Task"), body)
		}
	}
	return nil
}

func TestFromDockerfilesToAnOpenShop(t *testing.T) {
	b := start(t)
	b.buildShop()
	port := fmt.Sprint(freePort(t))
	deploy := filepath.Join(repo(t), "bin/shop-deploy")
	out, err := b.client(b.dir, deploy, "-port", port)
	if err != nil {
		t.Fatal(err)
	}
	b.eventually(10*time.Second, "the shop is open", func() error { return shopIsOpen("http://127.0.0.1:" + port) })
	if !strings.Contains(out, ".elb.us-east-1.localhost:"+port) {
		t.Errorf("deploy printed %q", out)
	}
	if out, err = b.client(b.dir, deploy, "-port", port); err != nil || strings.Count(out, "unchanged") != 4 {
		t.Errorf("deploying again changed something: %v\n%s", err, out)
	}
}

func TestTerraformDeploysTheShopAndPlansNothingAfter(t *testing.T) {
	tf := stock(t, "terraform")
	mirror := "/opt/tf-plugins"
	if _, err := os.Stat(mirror); err != nil {
		t.Skip("the AWS provider is not at " + mirror)
	}
	b := start(t)
	b.buildShop()
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join(repo(t), "examples/shop/terraform/main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "terraformrc")
	os.WriteFile(conf, []byte(`provider_installation { filesystem_mirror { path = "`+mirror+`" } }`), 0o600)
	b.env["TF_CLI_CONFIG_FILE"] = conf
	port := fmt.Sprint(freePort(t))
	must := func(args ...string) string {
		t.Helper()
		out, err := b.client(dir, tf, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	must("init", "-no-color")
	must("apply", "-no-color", "-auto-approve", "-var", "port="+port)
	b.eventually(10*time.Second, "the shop is open", func() error { return shopIsOpen("http://127.0.0.1:" + port) })
	if out, err := b.client(dir, tf, "plan", "-no-color", "-detailed-exitcode", "-var", "port="+port); err != nil {
		t.Errorf("the plan after apply is not empty: %v\n%s", err, out)
	}
	must("destroy", "-no-color", "-auto-approve", "-var", "port="+port)
}
