import { readPolicyFile } from "../../client/node/policyFile.ts";
import { PolicyError } from "../../client/policy/errors.ts";
import { type Policy, parsePolicy } from "../../client/policy/schema.ts";
import { UsageError } from "../shared/exit.ts";

/** A policy as the client takes it. One that is wrong is wrong usage. */
export async function readPolicy(file: string): Promise<Policy> {
	return orWrongUsage(async () => parsePolicy(await readPolicyFile(file)));
}

/** @throws UsageError in place of PolicyError */
export async function orWrongUsage<Value>(read: () => Promise<Value>): Promise<Value> {
	try {
		return await read();
	} catch (error) {
		if (error instanceof PolicyError) throw new UsageError(error.message);
		throw error;
	}
}
