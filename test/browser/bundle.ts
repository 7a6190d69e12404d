import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress, gzip } from "node:zlib";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Bytes of a bundle as it is, and as servers send it. */
export type Sizes = Readonly<{ raw: number; gzip: number; brotli: number }>;

export type Bundles = Readonly<{
	/** What the test's page runs: the client and all that it needs, minified. */
	page: Uint8Array;
	sizes: Readonly<{
		page: Sizes;
		/** What the client adds to a page that has viem already. */
		withoutViem: Sizes;
	}>;
}>;

/** Builds the client as a page would, with esbuild. Fails on anything of Node's. */
export async function bundlePage(): Promise<Bundles> {
	const [page, withoutViem] = await Promise.all([bundle([]), bundle(["viem", "viem/*"])]);
	return { page, sizes: { page: await sizesOf(page), withoutViem: await sizesOf(withoutViem) } };
}

async function bundle(external: string[]): Promise<Uint8Array> {
	const { outputFiles } = await build({
		absWorkingDir: ROOT,
		entryPoints: ["test/browser/page.ts"],
		bundle: true,
		minify: true,
		format: "esm",
		platform: "browser",
		target: "es2023",
		// The sources, as everywhere in this repository; where the package is installed its dist/ is what is bundled.
		conditions: ["sluice-source"],
		external,
		write: false,
		logLevel: "silent",
	});
	const [output] = outputFiles;
	if (output === undefined) throw new Error("esbuild wrote nothing");
	return output.contents;
}

async function sizesOf(bytes: Uint8Array): Promise<Sizes> {
	const [zipped, brotlied] = await Promise.all([promisify(gzip)(bytes), promisify(brotliCompress)(bytes)]);
	return { raw: bytes.length, gzip: zipped.length, brotli: brotlied.length };
}
