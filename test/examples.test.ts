import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LocalChain, startChain } from "../src/cli/demo/chain.ts";
import { codeUnder, expectPaid } from "./support/programs.ts";

const ROOT = new URL("..", import.meta.url).pathname;

describe("the examples", () => {
	let chain: LocalChain;
	let folder: string;

	beforeAll(async () => {
		chain = await startChain();
		folder = await mkdtemp(join(tmpdir(), "sluice-examples-"));
	});

	afterAll(async () => {
		await chain?.stop();
		await rm(folder, { recursive: true, force: true });
	});

	it.each(["client", "axios", "undici"])(
		"run as they stand: ten quotes over one channel, one charge, one close: %s",
		async (client) => {
			await expectPaid(chain, {
				server: join(ROOT, "examples/server.ts"),
				client: join(ROOT, `examples/${client}.ts`),
				folder: await mkdtemp(join(folder, "run-")),
				nodeArgs: ["--conditions=sluice-source"],
			});
		},
	);

	it.each(["server", "client"])("stand in the README as they are: %s", async (name) => {
		const [readme, example] = await Promise.all([
			readFile(join(ROOT, "README.md"), "utf8"),
			readFile(join(ROOT, `examples/${name}.ts`), "utf8"),
		]);
		expect(codeUnder(readme, `A ${name} in twenty lines`)).toBe(example);
	});
});
