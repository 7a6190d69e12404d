import { type Address, getAddress } from "viem";
import { keystoreAddress } from "../../client/node/keystore.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode, UsageError } from "../shared/exit.ts";
import { type WalletOptions, walletFolder } from "../shared/payer.ts";
import { type PayerKeyOptions, readKeystore, readPlainKey } from "../shared/payerKey.ts";

export type AddressOptions = WalletOptions & PayerKeyOptions;

export async function showAddress(run: Run, options: AddressOptions): Promise<ExitCode> {
	const address = await payerAddress(run, options);
	await run.out.line(run.format === "json" ? JSON.stringify({ address }) : getAddress(address));
	return EXIT.done;
}

/**
 * The payer's address. A keystore has it in the clear, so that no passphrase is asked for.
 *
 * @throws UsageError when there is no key, or its keystore does not say whose it is
 */
export async function payerAddress(run: Run, options: AddressOptions): Promise<Address> {
	const plain = await readPlainKey(run, options);
	if (plain !== undefined) return plain.address;
	const address = keystoreAddress(await readKeystore(options.keystore, walletFolder(run, options)));
	if (address !== undefined) return address;
	throw new UsageError("the keystore does not say whose it is: add its address to it, as 40 hex digits");
}
