import { defineConfig } from "vitest/config";

export default defineConfig({
	test: {
		include: ["test/**/*.test.ts"],
		testTimeout: 60_000,
		hookTimeout: 60_000,
		// Two cores: more workers only make the real chains and servers of the tests wait for each other.
		maxWorkers: 2,
	},
});
