# Limits as Terraform keeps them, through Prefect's provider and `localgcl serve`.

terraform {
  required_providers {
    prefect = {
      source  = "prefecthq/prefect"
      version = ">= 2.0"
    }
  }
}

provider "prefect" {
  endpoint = "http://127.0.0.1:4200"
}

resource "prefect_global_concurrency_limit" "database" {
  name  = "database"
  limit = 5

  lifecycle {
    # The slots that are in use at the moment are nobody's plan. Without this, every plan would
    # set them to 0, which frees the slots of all who hold some.
    ignore_changes = [active_slots]
  }
}

resource "prefect_global_concurrency_limit" "api" {
  name                  = "api"
  limit                 = 10
  slot_decay_per_second = 2

  lifecycle {
    ignore_changes = [active_slots]
  }
}
