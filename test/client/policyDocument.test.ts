/** Policies as people write them down: JSON data, files in JSON and YAML, and files that change. */
import { chmod, chown, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, test } from "vitest";
import {
	findPolicyFile,
	MAX_POLICY_FILE_BYTES,
	readPolicyFile,
	watchPolicyFile,
} from "../../src/client/node/policyFile.ts";
import { describePolicy } from "../../src/client/policy/describe.ts";
import { parsePolicyDocument } from "../../src/client/policy/document.ts";
import { policyJsonSchema } from "../../src/client/policy/documentSchema.ts";
import { type PaymentPolicy, PolicyError, parsePolicy } from "../../src/client/policy.ts";

const usdc = `0x${"c0".repeat(20)}`;
const currency = {
	symbol: "USDC",
	decimals: 6,
	tokens: [{ chainId: 8_453, address: usdc }],
	maxPrice: "0.05",
	maxDeposit: "5",
};
const document = { hosts: ["api.example.com"], currencies: [currency] };
const withCurrency = (change: object) => ({ ...document, currencies: [{ ...currency, ...change }] });

describe("a policy document", () => {
	it("has its amounts in the units of their currency", () => {
		const limits = {
			request: "0.5",
			host: { hour: "1", day: "5.00" },
			payee: { month: "100.000001" },
			channel: { ever: "7" },
			category: { ai: { day: "2" } },
			total: { ever: "1000" },
		};
		const categories = { ai: { hosts: ["*.ai.example.com"] } };
		const more = { maxStream: "0.5", maxTotal: "50", maxUnaccounted: "0", approveAbove: "0", limits };
		expect(parsePolicyDocument({ ...withCurrency(more), categories, $schema: "policy.schema.json" })).toEqual({
			hosts: ["api.example.com"],
			categories,
			currencies: [
				{
					...currency,
					maxPrice: 50_000n,
					maxDeposit: 5_000_000n,
					maxStream: 500_000n,
					maxTotal: 50_000_000n,
					maxUnaccounted: 0n,
					approveAbove: 0n,
					limits: {
						request: 500_000n,
						host: { hour: 1_000_000n, day: 5_000_000n },
						payee: { month: 100_000_001n },
						channel: { ever: 7_000_000n },
						category: { ai: { day: 2_000_000n } },
						total: { ever: 1_000_000_000n },
					},
				},
			],
		});
	});

	it.each<[unknown, string, string]>([
		[null, "policy", "must be an object"],
		[[], "policy", "must be an object"],
		[{}, "currencies", "is missing"],
		[{ ...document, hosts: undefined }, "policy", "names the hosts or the payees"],
		[{ ...document, hosts: [] }, "hosts", "must not be empty"],
		[{ ...document, hosts: ["https://api.example.com"] }, "hosts.0", '"*.example.com"'],
		[{ ...document, host: ["a.com"] }, "policy", 'has no field "host"'],
		[{ ...document, maxPrice: "1" }, "policy", 'has no field "maxPrice"'],
		[{ ...document, paused: "" }, "paused", ""],
		[{ ...document, isDenied: true }, "policy", "isDenied"],
		[{ ...document, categories: { "a b": { hosts: ["a.com"] } } }, "categories.a b", "letters"],
		[{ ...document, denied: { host: ["a.com"] } }, "denied", 'has no field "host"'],
		[{ ...document, maxChannels: 0 }, "maxChannels", "too small"],
		[withCurrency({ maxPrice: 0.05 }), "currencies.0.maxPrice", 'in quotes, such as "0.05": a bare number'],
		[withCurrency({ maxPrice: "0" }), "currencies.0.maxPrice", "more than 0"],
		[withCurrency({ maxPrice: "1e3" }), "currencies.0.maxPrice", "digits"],
		[withCurrency({ maxPrice: "0x10" }), "currencies.0.maxPrice", "digits"],
		[withCurrency({ maxPrice: "-1" }), "currencies.0.maxPrice", "digits"],
		[withCurrency({ maxPrice: "1,5" }), "currencies.0.maxPrice", "digits"],
		[withCurrency({ maxPrice: "1." }), "currencies.0.maxPrice", "digits"],
		[withCurrency({ maxPrice: "1 USDC" }), "currencies.0.maxPrice", "digits"],
		[withCurrency({ maxPrice: "0.0000001" }), "currencies.0.maxPrice", "more than the 6 decimals"],
		[withCurrency({ maxPrice: undefined }), "currencies.0.maxPrice", "is missing"],
		[withCurrency({ decimals: undefined }), "currencies.0.decimals", "is missing"],
		[withCurrency({ limits: { host: { dya: "1" } } }), "currencies.0.limits.host", 'has no field "dya"'],
		[withCurrency({ limits: { host: { day: 5 } } }), "currencies.0.limits.host.day", "in quotes"],
		[withCurrency({ limits: { host: "5" } }), "currencies.0.limits.host", "must be an object"],
		[withCurrency({ limits: { category: { ai: { day: "1" } } } }), "currencies.0.limits.category.ai", "categories"],
		[withCurrency({ tokens: [{ chainId: 8_453, address: 0xc0 }] }), "currencies.0.tokens.0.address", "in quotes"],
		[withCurrency({ tokens: [{ chainId: "8453", address: usdc }] }), "currencies.0.tokens.0.chainId", "whole number"],
	])("that is wrong is refused, and says where and what to write: %#", (value, path, hint) => {
		const parse = () => parsePolicyDocument(value);
		expect(parse).toThrow(PolicyError);
		expect(parse).toThrow(path);
		expect(parse).toThrow(hint);
	});

	test("whatever it is, is read or refused by a PolicyError, and no amount changes on its way", () => {
		const amounts = fc.oneof(
			fc.tuple(fc.nat(10 ** 9), fc.nat(999_999)).map(([whole, part]) => `${whole}.${String(part).padStart(6, "0")}`),
			fc.bigInt({ min: 1n, max: 10n ** 30n }).map(String),
		);
		fc.assert(
			fc.property(amounts, (text) => {
				if (!/[1-9]/.test(text)) return;
				const read = parsePolicyDocument(withCurrency({ maxPrice: text }));
				const [whole = "", part = ""] = text.split(".");
				expect(read.currencies?.[0]?.maxPrice).toBe(BigInt(whole + part.padEnd(6, "0")));
			}),
		);
		fc.assert(
			fc.property(
				fc.jsonValue(),
				fc.constantFrom("hosts", "currencies", "denied", "categories", "paused"),
				(value, name) => {
					try {
						parsePolicyDocument({ ...document, [name]: value });
					} catch (error) {
						expect(error).toBeInstanceOf(PolicyError);
					}
				},
			),
		);
	});

	it("is described as it was written, with what is so by default", () => {
		const text = describePolicy(parsePolicy(parsePolicyDocument(withCurrency({ limits: { host: { day: "4.2" } } }))));
		expect(text).toMatchObject({
			hosts: ["api.example.com"],
			maxChannels: 16,
			currencies: [{ ...currency, maxDeposit: "5.00", limits: { host: { day: "4.20" } } }],
		});
		// And can be read again.
		expect(parsePolicy(parsePolicyDocument(JSON.parse(JSON.stringify(text))))).toEqual(
			parsePolicy(parsePolicyDocument(withCurrency({ limits: { host: { day: "4.2" } } }))),
		);
	});

	it("has a JSON Schema, which is the one in schema/", async () => {
		const kept = await readFile(new URL("../../schema/policy.schema.json", import.meta.url), "utf8");
		// Else: `npm run -s sluice -- policy schema > schema/policy.schema.json`, and format it.
		expect(JSON.parse(kept)).toEqual(JSON.parse(JSON.stringify(policyJsonSchema())));
	});
});

describe("a policy file", () => {
	let folder: string;
	beforeEach(async () => {
		folder = await mkdtemp(join(tmpdir(), "sluice-policy-"));
	});
	afterEach(() => rm(folder, { recursive: true, force: true }));

	async function write(name: string, text: string): Promise<string> {
		const path = join(folder, name);
		// At once, as an editor that is careful does.
		await writeFile(`${path}.new`, text);
		await rename(`${path}.new`, path);
		return path;
	}
	const yaml = (more = "") =>
		[
			"hosts: [api.example.com]",
			"currencies:",
			"  - symbol: USDC",
			"    decimals: 6",
			`    tokens: [{ chainId: 8453, address: ${usdc} }]`,
			'    maxPrice: "0.05"',
			"    maxDeposit: '5'",
			more,
		].join("\n");

	it("is JSON or YAML, and both say the same; an address needs no quotes", async () => {
		const expected = parsePolicyDocument(document);
		expect(await readPolicyFile(await write("policy.json", JSON.stringify(document)))).toEqual(expected);
		expect(await readPolicyFile(await write("policy.yaml", yaml()))).toEqual(expected);
		expect(await readPolicyFile(await write("policy.YML", yaml()))).toEqual(expected);
	});

	it("of the examples is right, and sets a limit of every kind", async () => {
		const policy = parsePolicy(await readPolicyFile(new URL("../../examples/policy.yaml", import.meta.url).pathname));
		expect(Object.keys(policy.currencies[0]?.limits ?? {}).sort()).toEqual(
			["category", "channel", "host", "payee", "request", "total"].sort(),
		);
	});

	it.each<[string, string, RegExp]>([
		[
			"a number where an amount is",
			yaml("    limits:\n      host:\n        day: 5.00"),
			/^policy\.yaml:10: policy currencies\.0\.limits\.host\.day must be an amount in quotes/,
		],
		[
			"a field that does not exist",
			yaml("    limts: {}"),
			/^policy\.yaml:3: policy currencies\.0 has no field "limts"/,
		],
		["what stands twice", yaml("hosts: [evil.example.com]"), /^policy\.yaml:8: this stands twice/],
		["two documents", yaml("---\nhosts: [evil.example.com]"), /second document/],
		["a merge", `x: &x {paused: true}\n<<: *x\n${yaml()}`, /has no field/],
		["a tag of nobody's", yaml("paused: !yes true"), /^policy\.yaml:8: /],
		["an alias of nothing", yaml("payees: *nobody"), /policy\.yaml/],
		[
			"a bomb of aliases",
			`a: &a [1,2,3,4,5,6,7,8,9]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c]\n`,
			/policy\.yaml/,
		],
		["nothing", "", /must be an object/],
		["what goes too deep", "[".repeat(50_000), /policy\.yaml/],
		["a key that is a list", "? [a]\n: b\n", /policy\.yaml:1/],
	])("with %s is refused", async (_name, text, message) => {
		const path = await write("policy.yaml", text);
		await expect(readPolicyFile(path)).rejects.toThrow(PolicyError);
		await expect(readPolicyFile(path)).rejects.toThrow(message);
	});

	it.each<[string, RegExp]>([
		[`{"hosts": ["a.com"], "hosts": ["b.com"]}`, /^policy\.json:1: this stands twice/],
		["hosts: [a.com]", /^policy\.json is no JSON/],
		['{"hosts": ["a.com"],}', /^policy\.json is no JSON/],
		[`${JSON.stringify(document)}\n{}`, /^policy\.json is no JSON/],
	])("in JSON is refused: %s", async (text, message) => {
		await expect(readPolicyFile(await write("policy.json", text))).rejects.toThrow(message);
	});

	it("is refused when it is too large, is not there, is no text, or everybody may change it", async () => {
		const large = await write("large.json", " ".repeat(MAX_POLICY_FILE_BYTES + 1));
		await expect(readPolicyFile(large)).rejects.toThrow(/bytes/);
		await expect(readPolicyFile(join(folder, "none.json"))).rejects.toThrow(/there is no policy file/);
		await expect(readPolicyFile(folder)).rejects.toThrow(PolicyError);
		const binary = join(folder, "binary.yaml");
		await writeFile(binary, Buffer.from([0xff, 0xfe, 0x00]));
		await expect(readPolicyFile(binary)).rejects.toThrow(PolicyError);
		const open = await write("open.yaml", yaml());
		await chmod(open, 0o666);
		await expect(readPolicyFile(open)).rejects.toThrow(/chmod o-w/);
	});

	it.skipIf(process.platform === "win32")(
		"is read with a warning where its group can change it, another user owns it, or others can replace it",
		async () => {
			const warnings: string[] = [];
			const listen = ({ message, code }: Error & { code?: string }) => {
				if (code === "SLUICE_POLICY_ACCESS") warnings.push(message);
			};
			process.on("warning", listen);
			try {
				const mine = await write("mine.yaml", yaml());
				await readPolicyFile(mine);
				const ofGroup = await write("group.yaml", yaml());
				await chmod(ofGroup, 0o664);
				// Told of once.
				for (let i = 0; i < 2; i++) await readPolicyFile(ofGroup);
				await expect.poll(() => warnings, { timeout: 20_000 }).toEqual([expect.stringMatching(/group\.yaml.*g-w/)]);
				const inOpen = await write("open.yaml", yaml());
				await chmod(folder, 0o777);
				await readPolicyFile(inOpen);
				await expect.poll(() => warnings.at(-1), { timeout: 20_000 }).toMatch(/place of .*open\.yaml.*go-w/);
				await chmod(folder, 0o700);
				if (process.getuid?.() !== 0) return;
				const foreign = await write("foreign.yaml", yaml());
				await chown(foreign, 12_345, 12_345);
				await readPolicyFile(foreign);
				await expect.poll(() => warnings.at(-1), { timeout: 20_000 }).toMatch(/another user \(12345\).*foreign\.yaml/);
				expect(warnings).toHaveLength(3);
			} finally {
				process.off("warning", listen);
			}
		},
	);

	it("of a wallet is the one that is there: none or two are refused", async () => {
		await expect(findPolicyFile(folder)).rejects.toThrow(/there is no policy/);
		const path = await write("policy.yaml", yaml());
		expect(await findPolicyFile(folder)).toBe(path);
		await write("policy.json", JSON.stringify(document));
		await expect(findPolicyFile(folder)).rejects.toThrow(/policy\.json and policy\.yaml/);
	});

	describe("that is watched", () => {
		let stop: () => void;
		let policies: PaymentPolicy[];
		let errors: Error[];
		async function watch(path: string): Promise<void> {
			policies = [];
			errors = [];
			stop = watchPolicyFile(
				path,
				(policy) => policies.push(policy),
				(error) => errors.push(error),
				{ pollMs: 5 },
			);
		}
		afterEach(() => stop());
		const until = (check: () => void) => expect.poll(check, { timeout: 20_000, interval: 5 });
		const latest = () => policies.at(-1);

		it("is told at once, and again when it changes", async () => {
			const path = await write("policy.yaml", yaml());
			await watch(path);
			await until(() => latest()?.hosts).toEqual(["api.example.com"]);
			await write("policy.yaml", yaml().replace("api.", "other."));
			await until(() => latest()?.hosts).toEqual(["other.example.com"]);
			expect(policies).toHaveLength(2);
			expect(errors).toEqual([]);
		});

		it.each<[string, (path: string) => Promise<unknown>]>([
			["is broken", (path) => writeFile(path, "hosts: [")],
			["has a limit misspelt", (path) => writeFile(path, yaml("    limts: {}"))],
			["is gone", (path) => rm(path)],
			["can be changed by everybody", (path) => chmod(path, 0o666)],
		])(
			"pauses spending when it %s, rather than keep a policy that may be wider, until it is right again",
			async (_name, spoil) => {
				const path = await write("policy.yaml", yaml());
				await watch(path);
				await until(() => latest()?.hosts).toEqual(["api.example.com"]);
				await spoil(path);
				await until(() => errors.length).toBe(1);
				expect(latest()).toMatchObject({ hosts: ["api.example.com"], paused: expect.stringContaining("policy") });
				expect(() => parsePolicy(latest() as PaymentPolicy)).not.toThrow();
				await rm(path, { force: true });
				await write("policy.yaml", yaml("maxChannels: 3"));
				await until(() => latest()).toEqual({ ...parsePolicyDocument(document), maxChannels: 3 });
			},
		);

		it("pauses spending while it is not taken, says so once, and is tried again until it is", async () => {
			const path = await write("policy.yaml", yaml());
			policies = [];
			errors = [];
			let refused = 0;
			let isTaking = true;
			const take = (policy: PaymentPolicy) => {
				if (!isTaking && policy.paused === undefined) {
					refused++;
					throw new Error("not now");
				}
				policies.push(policy);
			};
			stop = watchPolicyFile(path, take, (error) => errors.push(error), { pollMs: 5 });
			await until(() => policies.length).toBe(1);
			isTaking = false;
			await write("policy.yaml", yaml("maxChannels: 3"));
			await until(() => refused).toBeGreaterThan(3);
			expect(errors).toEqual([
				expect.objectContaining({ code: "POLICY", message: expect.stringContaining("not now") }),
			]);
			expect(policies).toHaveLength(2);
			expect(latest()).toMatchObject({ hosts: ["api.example.com"], paused: expect.stringContaining("not now") });
			isTaking = true;
			await until(() => latest()).toEqual({ ...parsePolicyDocument(document), maxChannels: 3 });
			expect(errors).toHaveLength(1);
		});

		it("and wrong from the start allows nothing", async () => {
			await watch(await write("policy.yaml", "hosts: ["));
			await until(() => errors.length).toBe(1);
			expect(latest()).toMatchObject({ paused: expect.anything(), escrows: [] });
			expect(parsePolicy(latest() as PaymentPolicy).paused).toContain("wrong");
		});
	});
});
