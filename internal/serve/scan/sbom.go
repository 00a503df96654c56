package scan

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// SPDX is an inventory as an SPDX 2.3 document.
func SPDX(image, digest string, inv *Inventory) map[string]any {
	packages := []any{map[string]any{"SPDXID": "SPDXRef-Image", "name": image, "versionInfo": digest, "downloadLocation": "NOASSERTION", "filesAnalyzed": false}}
	relations := []any{map[string]any{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Image"}}
	for i, p := range inv.Packages {
		id := fmt.Sprintf("SPDXRef-Package-%d", i+1)
		packages = append(packages, map[string]any{"SPDXID": id, "name": p.Name, "versionInfo": p.Version, "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
			"sourceInfo":   "found in " + p.Path + " of layer " + p.Layer,
			"externalRefs": []any{map[string]any{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl(p)}}})
		relations = append(relations, map[string]any{"spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS", "relatedSpdxElement": id})
	}
	return map[string]any{"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": image,
		"documentNamespace": "https://berth.dev/spdx/" + strings.ReplaceAll(digest, ":", "-"), "packages": packages, "relationships": relations,
		"creationInfo": map[string]any{"created": inv.At.UTC().Format(time.RFC3339), "creators": []string{"Tool: berth"}}}
}

// purl is a package's URL (package-url/purl-spec).
func purl(p Package) string {
	family, _, _ := strings.Cut(p.Ecosystem, ":")
	kind := map[string]string{"Debian": "deb/debian", "Ubuntu": "deb/ubuntu", "Alpine": "apk/alpine", "npm": "npm", "PyPI": "pypi", "Go": "golang"}[family]
	name := p.Name
	if p.OS() && p.Binary != "" {
		name = p.Binary
	}
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(parts[i]), "@", "%40")
	}
	return "pkg:" + kind + "/" + strings.Join(parts, "/") + "@" + url.PathEscape(p.Version)
}
