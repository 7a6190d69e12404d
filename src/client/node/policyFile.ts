import type { Stats } from "node:fs";
import { open, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { isMap, isNode, isScalar, isSeq, LineCounter, type ParsedNode, parseDocument, visit } from "yaml";
import { parsePolicyDocument } from "../policy/document.ts";
import { PolicyError } from "../policy/errors.ts";
import type { PaymentPolicy } from "../policy/schema.ts";

/** The largest file that is read. */
export const MAX_POLICY_FILE_BYTES = 1024 * 1024;

/** How often a watched file is looked at. */
const POLL_MS = 500;

/** What says it worse in a reader's words. */
const WORDS: Readonly<Record<string, string>> = {
	DUPLICATE_KEY: "this stands twice: leave one of them",
	MULTIPLE_DOCS: "a second document begins here: a policy is one",
};

/** The names of a policy file in a wallet's folder. */
const FILE_NAMES = ["policy.json", "policy.yaml", "policy.yml"];

/**
 * The policy file of a wallet.
 *
 * @throws PolicyError when there is none, or several
 */
export async function findPolicyFile(folder: string): Promise<string> {
	const there: string[] = [];
	for (const name of FILE_NAMES) if ((await stateOf(join(folder, name))) !== "ENOENT") there.push(name);
	const [name, another] = there;
	if (name === undefined)
		throw new PolicyError(`there is no policy in ${folder}: write policy.yaml there, or name a file (--policy)`);
	if (another !== undefined)
		throw new PolicyError(`${folder} holds ${there.join(" and ")}: leave one, or name a file (--policy)`);
	return join(folder, name);
}

/**
 * Reads a policy: JSON, or YAML where the file's name ends in `.yaml` or `.yml`. What stands twice is refused, and so is a file
 * that everybody can change. One that its group or another user than this one and root can change, or put another one in the
 * place of, is read with a warning of the process, as the wallet's folder is: who that is only their owner can tell.
 *
 * @throws PolicyError naming the line, the path and what to write there
 * @example
 * const payer = new PaymentClient({ account, client, policy: await readPolicyFile("policy.yaml") });
 */
export async function readPolicyFile(path: string): Promise<PaymentPolicy> {
	const name = basename(path);
	const text = await readText(path, name);
	const isYaml = /^\.ya?ml$/i.test(extname(path));
	if (!isYaml) assertJson(text, name);
	const lines = new LineCounter();
	// JSON as well: here it is found out what stands twice, and on which line.
	const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true, merge: false });
	const [problem] = [...document.errors, ...document.warnings];
	if (problem !== undefined) {
		const words = WORDS[problem.code] ?? problem.message;
		throw new PolicyError(`${name}:${lines.linePos(problem.pos[0]).line}: ${words}`);
	}
	keepHexAsText(document);
	try {
		return parsePolicyDocument(document.toJS({ maxAliasCount: 50 }));
	} catch (error) {
		if (error instanceof PolicyError)
			throw new PolicyError(`${name}:${lineOf(document.contents, error.path, lines)}: ${error.message}`, error.path);
		// Too many aliases, or too deep.
		throw new PolicyError(`${name} can't be read: ${error instanceof Error ? error.message : "unknown error"}`);
	}
}

/**
 * Calls with the policy of a file, and again whenever the file changes. Where it can't be read, is gone or is wrong, spending is
 * paused until it is right again, rather than going on by what the file does not say any more: `onError` hears why, and
 * `onChange` gets the last policy, paused. The same where `onChange` throws: it is called again until it takes the policy. What changes while it is being written is read when it has come to rest; to replace
 * a file at once, rename another one to it. Does not keep the process from ending.
 *
 * @returns how to stop
 * @example
 * const stop = watchPolicyFile("policy.yaml", (policy) => payer.setPolicy(policy), (error) => console.error(error.message));
 */
export function watchPolicyFile(
	path: string,
	onChange: (policy: PaymentPolicy) => void,
	onError: (error: PolicyError) => void,
	{ pollMs = POLL_MS }: Readonly<{ pollMs?: number }> = {},
): () => void {
	let last = NOTHING_ALLOWED;
	let seen: string | undefined;
	/** The state of the file that `last` was read from, where nothing is wrong. */
	let good: string | undefined;
	/** What was told to be wrong. */
	let told: string | undefined;
	/** Whether `onChange` has taken the pause for that. */
	let isPaused = false;
	let isStopped = false;
	const look = async () => {
		const now = await stateOf(path);
		const isAtRest = now === seen || seen === undefined;
		seen = now;
		if (now === good || !isAtRest) return;
		const outcome = await readPolicyFile(path).catch((error: unknown) => error as PolicyError);
		// Else it was changed while it was read: what was read may be neither the old nor the new one.
		if (isStopped || (await stateOf(path)) !== now) return;
		const problem = outcome instanceof Error ? outcome : refusalBy(onChange, outcome);
		if (problem === undefined) {
			good = now;
			told = undefined;
			isPaused = false;
			last = outcome as PaymentPolicy;
			return;
		}
		good = undefined;
		if (told === problem.message && isPaused) return;
		isPaused =
			refusalBy(onChange, { ...last, paused: `the policy file is wrong: ${problem.message}`.slice(0, 500) }) ===
			undefined;
		if (told === problem.message) return;
		told = problem.message;
		onError(problem);
	};
	let timer: NodeJS.Timeout;
	const again = () => {
		if (isStopped) return;
		timer = setTimeout(() => void look().finally(again), pollMs);
		timer.unref();
	};
	void look().finally(again);
	return () => {
		isStopped = true;
		clearTimeout(timer);
	};
}

/** Why a policy was not taken; `undefined` where it was. */
function refusalBy(take: (policy: PaymentPolicy) => void, policy: PaymentPolicy): PolicyError | undefined {
	try {
		take(policy);
		return undefined;
	} catch (error) {
		return new PolicyError(`the policy was not taken: ${error instanceof Error ? error.message : "unknown error"}`);
	}
}

/** What goes before the first policy that could be read: it would allow next to nothing, and is paused. */
const NOBODY = `0x${"0".repeat(40)}`;
const NOTHING_ALLOWED: PaymentPolicy = {
	chainIds: [1],
	tokens: [NOBODY],
	escrows: [],
	payees: [NOBODY],
	maxPrice: 1n,
	maxDeposit: 1n,
	paused: true,
};

/** What changes when a file does. */
async function stateOf(path: string): Promise<string> {
	try {
		const { mtimeMs, ctimeMs, size, ino } = await stat(path);
		return `${mtimeMs} ${ctimeMs} ${size} ${ino}`;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code ?? "unknown";
	}
}

async function readText(path: string, name: string): Promise<string> {
	try {
		const file = await open(path, "r");
		try {
			const state = await file.stat();
			const { size, mode } = state;
			if (size > MAX_POLICY_FILE_BYTES)
				throw new PolicyError(`${name} has ${size} bytes: a policy has ${MAX_POLICY_FILE_BYTES} at most`);
			if (process.platform !== "win32" && (mode & 0o002) !== 0)
				throw new PolicyError(`${name} can be changed by everybody: chmod o-w ${name}`);
			await warnOfOthers(path, state);
			const bytes = Buffer.alloc(MAX_POLICY_FILE_BYTES + 1);
			const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
			if (bytesRead > MAX_POLICY_FILE_BYTES) throw new PolicyError(`${name} grows while it is read`);
			return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, bytesRead));
		} finally {
			await file.close();
		}
	} catch (error) {
		if (error instanceof PolicyError) throw error;
		if ((error as NodeJS.ErrnoException).code === "ENOENT")
			throw new PolicyError(`there is no policy file ${path}: write one, or name another (--policy)`);
		throw new PolicyError(`${name} can't be read: ${error instanceof Error ? error.message : "unknown error"}`);
	}
}

const WRITABLE_BY_GROUP = 0o020;
const WRITABLE_BY_OTHERS = 0o022;
/** In such a folder nobody can rename or remove what is another user's. */
const STICKY = 0o1000;

/** What was warned of, so that one that is read again and again is told of once. */
const warned = new Set<string>();

/** How many warnings are remembered. */
const MOST_WARNED = 100;

/** Warns where others than this user and root can change the policy. */
async function warnOfOthers(path: string, { mode, uid }: Stats): Promise<void> {
	if (process.platform === "win32") return;
	const folder = dirname(path);
	const its = await stat(folder).catch(() => undefined);
	const isMine = (owner: number) => owner === 0 || owner === process.getuid?.();
	if ((mode & WRITABLE_BY_GROUP) !== 0) warn(`its group can write to the policy ${path}: \`chmod g-w\` it`);
	if (!isMine(uid)) warn(`another user (${uid}) owns the policy ${path} and can change it: \`chown\` it`);
	if (its === undefined) return;
	const isOpen = (its.mode & WRITABLE_BY_OTHERS) !== 0 && (its.mode & STICKY) === 0;
	if (isOpen || !isMine(its.uid))
		warn(`others can put another policy in the place of ${path}: see who owns its folder, and \`chmod go-w\` that`);
}

function warn(text: string): void {
	if (warned.has(text)) return;
	if (warned.size >= MOST_WARNED) warned.clear();
	warned.add(text);
	process.emitWarning(text, { code: "SLUICE_POLICY_ACCESS" });
}

function assertJson(text: string, name: string): void {
	try {
		JSON.parse(text);
	} catch (error) {
		throw new PolicyError(`${name} is no JSON (YAML ends in .yaml): ${(error as Error).message}`);
	}
}

/** `0x…` without quotes is a number to YAML, and would lose its digits: it is an address to whoever wrote it. */
function keepHexAsText(document: ReturnType<typeof parseDocument>): void {
	visit(document, {
		Scalar(_key, scalar) {
			if (typeof scalar.value === "number" && /^0x/i.test(scalar.source ?? "")) scalar.value = scalar.source;
		},
	});
}

/** The line of a path, or of the last part of it that is there. */
function lineOf(root: ParsedNode | null, path: readonly (string | number)[], lines: LineCounter): number {
	let node: unknown = root;
	let offset = root?.range[0] ?? 0;
	for (const part of path) {
		let next: unknown;
		if (isMap(node)) {
			const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
			if (pair !== undefined && isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
			next = pair?.value;
		} else if (isSeq(node)) {
			next = node.items[Number(part)];
			if (isNode(next)) offset = next.range?.[0] ?? offset;
		}
		if (next === undefined) break;
		node = next;
	}
	return lines.linePos(offset).line;
}
