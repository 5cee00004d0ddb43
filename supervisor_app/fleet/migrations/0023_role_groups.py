from django.db import migrations

ROLES = ("viewer", "operator", "admin")


def make_groups(apps, schema_editor):
    """A group of such a name that people have made keeps its members and rights, under another name: nobody
    may get or lose a right by a name."""
    groups = apps.get_model("auth", "Group").objects
    for role in ROLES:
        groups.filter(name=role).update(name=f"{role} (before roles)")
        groups.create(name=role)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("supervisor_app", "0022_maintenance"),
    ]
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
