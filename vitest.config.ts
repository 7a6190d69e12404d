import { defineConfig } from "vitest/config";

// The repository's own condition in package.json's exports: `import "sluice/server"` gets the sources, without a build.
const SOURCES = "sluice-source";

export default defineConfig({
	// These two replace the defaults, which therefore stand here again.
	resolve: { conditions: [SOURCES, "module", "browser", "development|production"] },
	ssr: {
		resolve: {
			conditions: [SOURCES, "module", "node", "development|production"],
			externalConditions: [SOURCES, "node", "module-sync"],
		},
	},
	test: {
		include: ["test/**/*.test.ts"],
		testTimeout: 60_000,
		hookTimeout: 60_000,
		// Two cores: more workers only make the real chains and servers of the tests wait for each other.
		maxWorkers: 2,
	},
});
