import { mkdir, open, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { generatePrivateKey } from "viem/accounts";
import { encryptKeystore } from "../../client/node/keystore.ts";
import { askSecret } from "../shared/askSecret.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { type WalletOptions, walletFolder } from "../shared/payer.ts";
import {
	KEYSTORE_NAME,
	PASSPHRASE_HINT,
	type PayerKeyOptions,
	readNamedKey,
	readPassphrase,
} from "../shared/payerKey.ts";
import { signerOf } from "../shared/signer.ts";
import { pairs } from "../shared/table.ts";

export type NewOptions = WalletOptions & PayerKeyOptions;

/** Whoever gets the file tries passphrases for as long as they like. */
const SHORTEST_PASSPHRASE = 8;

/** Makes a key and keeps it encrypted. */
export async function makeKeystore(run: Run, options: NewOptions): Promise<ExitCode> {
	const { out, format, say } = run;
	const folder = walletFolder(run, options);
	const path = options.keystore ?? join(folder, KEYSTORE_NAME);
	// Before anybody is asked for anything.
	if ((await stat(path).catch(() => undefined)) !== undefined) throw isThere(path);
	const { account, key, address } = (await readNamedKey(run, options)) ?? signerOf(generatePrivateKey());
	run.hide(key);
	const passphrase = await readPassphrase(run, options, askTwice);
	if ([...passphrase].length < SHORTEST_PASSPHRASE)
		throw new UsageError(`a passphrase has at least ${SHORTEST_PASSPHRASE} characters; several words are better`);
	const made = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
	await writeNew(path, await encryptKeystore(key, passphrase));
	await syncNames(path, made).catch((error: NodeJS.ErrnoException) =>
		say(`warning: whether the keystore is on disk is not known (${error.code}): look for it after the next start`),
	);
	if (format === "json") await out.line(JSON.stringify({ address, keystore: path, wallet: folder }));
	else
		await out.write(
			pairs([
				["address", account.address],
				["keystore", path],
			]),
		);
	say(
		"keep a copy of that file and remember its passphrase: nobody can restore either. Next: write policy.yaml in the wallet (`sluice policy --help`), and send tokens to the address",
	);
	return EXIT.done;
}

async function askTwice(): Promise<string> {
	const first = await askSecret("a passphrase for the new keystore", PASSPHRASE_HINT);
	if (first === (await askSecret("the same again", PASSPHRASE_HINT))) return first;
	throw new UsageError("the two differ; nothing was made");
}

/** A file that this user alone may read, on disk when it resolves. One that is there is never written over: it may have a key. */
async function writeNew(path: string, text: string): Promise<void> {
	const file = await open(path, "wx", 0o600).catch((error: NodeJS.ErrnoException) => {
		if (error.code !== "EEXIST") throw error;
		throw isThere(path);
	});
	try {
		await file.writeFile(`${text}\n`);
		await file.sync();
	} catch (error) {
		await rm(path, { force: true });
		throw error;
	} finally {
		await file.close();
	}
}

/**
 * The names of a new file, and of the folders that were made for it, are on disk when the folders that they are in are. Windows
 * has no such thing.
 */
async function syncNames(path: string, firstMade = path): Promise<void> {
	if (process.platform === "win32") return;
	const last = dirname(resolve(firstMade));
	for (let folder = dirname(resolve(path)); ; folder = dirname(folder)) {
		const handle = await open(folder, "r");
		try {
			await handle.sync();
		} finally {
			await handle.close();
		}
		if (folder === last || folder === dirname(folder)) return;
	}
}

function isThere(path: string): UsageError {
	return new UsageError(
		`${path} is there already and was not touched: name another file (--keystore), or another wallet`,
	);
}
