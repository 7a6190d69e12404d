import { policyJsonSchema } from "../../client/policy/documentSchema.ts";
import type { Run } from "../shared/command.ts";
import { EXIT, type ExitCode } from "../shared/exit.ts";

/** As it is in `schema/policy.schema.json`. */
export async function printSchema({ out }: Run): Promise<ExitCode> {
	await out.line(JSON.stringify(policyJsonSchema(), null, 2));
	return EXIT.done;
}
