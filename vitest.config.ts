import { defineConfig } from "vitest/config";

export default defineConfig({
	// The repository's own condition in package.json's exports: `import "sluice/server"` gets the sources, without a build.
	// The list replaces the default one, whose conditions therefore stand here again.
	ssr: { resolve: { conditions: ["sluice-source", "module", "node", "development|production"] } },
	test: {
		include: ["test/**/*.test.ts"],
		testTimeout: 60_000,
		hookTimeout: 60_000,
		// The default of one second is soon over where other work runs beside a real chain and a real disk.
		expect: { poll: { timeout: 10_000 } },
		// Two cores: more workers only make the real chains and servers of the tests wait for each other.
		maxWorkers: 2,
	},
});
